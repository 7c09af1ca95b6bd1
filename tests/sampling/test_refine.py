"""Paths at more times: the same Brownian path, the right law, and never a straight line."""

import math

import numpy as np
import pytest
import torch

from gendyn.data import Paths
from gendyn.sampling import SDE, BrownianStream, BrownianTree, StepGrid, cut, halve, refine, sample

BROWNIAN = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), 1)
GEOMETRIC = SDE(lambda t, x: 0.5 * x, lambda t, x: 0.6 * x, 1)
DOUBLE_WELL = SDE(lambda t, x: x - x**3, lambda t, x: 0.7 * torch.eye(1, dtype=x.dtype), 1, noise_type="additive")
ZEROS = torch.zeros(20_000, 1, dtype=torch.float64)


def error(found, truth):
    return float((found - truth).square().mean().sqrt())


# --- a cell of the tree, cut anywhere ----------------------------------------------------------------------


def pieces(fraction, h=2.0, n=100_000):
    """Return the whole and its two parts, as draws ``(n,)``."""
    z = torch.randn(4, n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w, area = z[0] * h**0.5, z[1] * (h / 12) ** 0.5
    (wl, hl), (wr, hr) = cut(w, area, h, fraction, z[2:])
    return w, area, wl, hl, wr, hr


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.5, 0.9])
def test_both_parts_of_a_cut_cell_have_their_law(fraction):
    n, h = 100_000, 2.0
    _, _, *parts = pieces(fraction, h)
    a, b = fraction * h, (1 - fraction) * h
    variances = torch.tensor([a, a / 12, b, b / 12], dtype=torch.float64)
    scaled = torch.cat(parts, dim=1) / variances.sqrt()
    assert (scaled.T.cov() - torch.eye(4)).abs().max() < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.5, 0.9])
def test_both_parts_of_a_cut_cell_make_the_whole(fraction):
    h = 2.0
    w, area, wl, hl, wr, hr = pieces(fraction, h, 100)
    a, b = fraction * h, (1 - fraction) * h
    torch.testing.assert_close(wl + wr, w)
    integral = a * (wl / 2 + hl) + b * (wl + wr / 2 + hr)
    torch.testing.assert_close(integral / h - w / 2, area)


def test_half_way_a_cut_is_a_halving():
    z = torch.randn(4, 7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (wl, hl), (wr, hr) = cut(z[0], z[1], 2.0, 0.5, z[2:])
    w, area = halve(z[0][None], z[1][None], 2.0, z[2:, None])
    torch.testing.assert_close(torch.stack([wl, wr]), w)
    torch.testing.assert_close(torch.stack([hl, hr]), area)


@pytest.mark.parametrize("depth", [0, 3, 7])
def test_the_path_until_a_time_depends_on_the_time_alone(depth):
    grid = StepGrid(torch.tensor([0.0, 2.0]), substeps=1)
    cells = BrownianTree().cells(0, grid, (300, 2), 0, torch.zeros(1, dtype=torch.float64))
    for t in (0.7, 0.75, 1.999):
        index, fraction = divmod(t / 2 * 2**depth, 1.0)
        before = cells.between(0, depth, 0, 2**depth)[0][: int(index)].sum(0)
        from_the_start, _ = cells.until(0, 0, 0, t / 2)
        here, _ = cells.until(0, depth, int(index), fraction)
        torch.testing.assert_close(before + here, from_the_start, rtol=0, atol=1e-7)


# --- paths --------------------------------------------------------------------------------------------------


def test_brownian_motion_has_its_variance_between_and_not_that_of_a_line():
    paths = sample(BROWNIAN, ZEROS, [0.0, 0.5, 1.0], step=0.5, noise="tree", seed=1)
    times = [0.1, 0.25, 0.6, 0.75, 1.0]
    found = refine(BROWNIAN, paths, times)
    assert found.times.tolist() == times
    covariance = found.values[:, :, 0].T.cov()
    truth = torch.tensor([[min(a, b) for a in times] for b in times], dtype=torch.float64)
    assert (covariance - truth).abs().max() < 5 * math.sqrt(2 / len(ZEROS))
    torch.testing.assert_close(found.values[:, -1], paths.values[:, -1], rtol=0, atol=1e-12)
    on_a_line = (paths.values[:, 0] + paths.values[:, 1]).var() / 4
    assert float(on_a_line) == pytest.approx(0.125, rel=0.05)


def test_halves_are_what_a_smaller_step_gives():
    paths = sample(GEOMETRIC, ZEROS[:500] + 1, [0.0, 1.0, 3.0], step=0.25, noise="tree", seed=2)
    # The ends of the steps that were taken: no step changes, and the values at the old times are the same to the bit.
    times = [0.0, 0.25, 0.75, 1.0, 1.25, 3.0]
    found = refine(GEOMETRIC, paths, times)
    assert torch.equal(found.values[:, [0, 3, 5]], paths.values)
    tree = BrownianTree(anchors=[0.0, 1.0, 3.0])
    direct = sample(GEOMETRIC, ZEROS[:500] + 1, times, step=0.25, noise=tree, seed=2)
    torch.testing.assert_close(found.values, direct.values, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("process", "solver", "start"),
    [(GEOMETRIC, "milstein", 1.0), (GEOMETRIC, "sri2", 1.0), (DOUBLE_WELL, "shark", 0.5)],
)
def test_new_times_are_as_exact_as_old_ones(process, solver, start):
    x0 = torch.full((1000, 1), start, dtype=torch.float64)
    run = {"solver": solver, "noise": "tree", "seed": 3}
    paths = sample(process, x0, [0.0, 1.0], step=1 / 32, **run)
    times = [0.1, 0.3337, 0.62, 1.0]
    fine = refine(process, sample(process, x0, [0.0, 1.0], step=1 / 1024, **run), times).values
    found = refine(process, paths, times).values
    old = error(paths.values[:, 1], fine[:, 3])
    for k in range(4):
        assert error(found[:, k], fine[:, k]) < 1.3 * old
    line = start + 0.1 * (paths.values[:, 1] - start)
    assert error(line, fine[:, 0]) > 10 * error(found[:, 0], fine[:, 0])
    # A shorter step brings the same paths nearer to their limit.
    closer = refine(process, paths, times, step=1 / 128).values
    for k in range(4):
        assert error(closer[:, k], fine[:, k]) < 0.35 * error(found[:, k], fine[:, k]) + 1e-9


def test_geometric_brownian_motion_has_one_brownian_path():
    # X = exp((mu - s^2/2) t + s W) gives W back at every time: the same from every set of times.
    x0 = torch.ones(2000, 1, dtype=torch.float64)
    paths = sample(GEOMETRIC, x0, [0.0, 1.0, 2.0], solver="log_euler", step=0.25, noise="tree", seed=4)
    one = refine(GEOMETRIC, paths, [0.3, 1.7])
    more = refine(GEOMETRIC, paths, [0.05, 0.2999, 0.3, 0.31, 1.5, 1.6, 1.7, 1.7001], step=0.1)
    torch.testing.assert_close(one.values, more.values[:, [2, 6]], rtol=1e-6, atol=0)
    brownian = ((more.values[:, :, 0].log() - 0.32 * more.times) / 0.6).diff(dim=1)
    gaps = more.times.diff()
    np.testing.assert_allclose((brownian.square().mean(0) / gaps).numpy(), 1.0, atol=5 * math.sqrt(2 / 2000))
    assert (brownian / gaps.sqrt()).T.corrcoef().fill_diagonal_(0).abs().max() < 5 / math.sqrt(2000)


@pytest.mark.parametrize(
    "noise", [BrownianTree(anchors=[0.0, 4.0]), BrownianTree(rng="philox"), BrownianTree(dtype=torch.float32)]
)
def test_the_tree_is_given_if_it_was_another(noise):
    paths = sample(BROWNIAN, ZEROS[:300], [0.0, 1.0, 3.0, 4.0], step=0.3, noise=noise, seed=5)
    found = refine(BROWNIAN, paths, [0.9, 3.0, 4.0], noise=noise)
    torch.testing.assert_close(found.values[:, 1:], paths.values[:, 2:], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"are not what this SDE gives with seed 5: give the process, all rows"):
        refine(BROWNIAN, paths, [0.9])


def test_long_runs_are_refined_in_pieces(tmp_path):
    x0 = torch.zeros(300, 2)
    process = SDE(lambda t, x: -x, lambda t, x: 0.3 * torch.eye(2), 2, noise_type="additive")
    file = tmp_path / "p.npz"
    sample(process, x0, [0.0, 4.0], step=0.002, noise="tree", to=file, chunk=256, names=["a", "b"])
    paths = Paths.load(file)
    found = refine(process, paths, [1.0, 3.3, 4.0])
    assert found.names == ("a", "b")
    assert found.info["n_steps"] == 2049
    assert found.info["nfe_drift"] == 2 * 2049
    torch.testing.assert_close(found.values[:, -1], paths.values[:, -1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("times", "more", "message"),
    [
        ([0.5], {"noise": "stream"}, "only paths sampled with noise='tree' .* made with noise 'stream'"),
        ([0.5], {"noise": BrownianStream()}, "made with noise 'stream'"),
        ([0.5, 0.5], {}, "increase strictly; got 0.5 after 0.5 at position 1"),
        ([0.5, 2.5], {}, "reach from 0 to 2; got times from 0.5 to 2.5"),
        ([float("nan")], {}, "times"),
        ([[0.5]], {}, r"shape \(T,\) with at least one"),
        ([0.3, 0.3 + 1e-9], {}, "too close to tell apart"),
    ],
)
def test_sentences(times, more, message):
    paths = sample(BROWNIAN, ZEROS[:300], [0.0, 1.0, 2.0], **{"step": 0.5, "noise": "tree"} | more)
    with pytest.raises(ValueError, match=message):
        refine(BROWNIAN, paths, times)


def test_what_else_it_refuses():
    paths = sample(BROWNIAN, ZEROS[:600], [0.0, 1.0, 2.0], step=0.5, noise="tree")
    for other in (paths.select([5, 6]), paths.select(list(range(599, -1, -1)))):
        with pytest.raises(ValueError, match="all rows in their order"):
            refine(BROWNIAN, other, [0.5])
    with pytest.raises(ValueError, match="not what this SDE gives"):
        refine(SDE(lambda t, x: 1 + 0 * x, lambda t, x: torch.ones_like(x), 1), paths, [0.5])
    with pytest.raises(ValueError, match="were refined already"):
        refine(BROWNIAN, refine(BROWNIAN, paths, [0.5, 1.0]), [0.7])
    with pytest.raises(ValueError, match="no noise that is known"):
        refine(BROWNIAN, Paths([0.0, 1.0], torch.zeros(3, 2)), [0.5])
    with pytest.raises(ValueError, match="step must be positive"):
        refine(BROWNIAN, paths, [0.5], step=0.0)
    with pytest.raises(ValueError, match="two or more times that all of them share"):
        refine(BROWNIAN, sample(BROWNIAN, ZEROS[:2], [0.0, 1.0], step=0.5, noise="tree", save="final"), [1.0])
    heun = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), 1, calculus="stratonovich")
    with pytest.warns(UserWarning, match="unstable"):
        carried = sample(heun, ZEROS[:2], [0.0, 1.0], step=0.5, noise="tree", solver="reversible_heun")
    with pytest.raises(ValueError, match="cannot be taken up again within its steps"):
        refine(heun, carried, [0.5])
