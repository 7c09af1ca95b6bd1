"""The signature kernel against closed forms, a plain loop, truncated signatures and finite differences."""

import numpy as np
import pytest
import torch
from scipy import special

from gendyn import Paths
from gendyn.evaluation import (
    kernel_score,
    polyline,
    signature,
    signature_gram,
    signature_kernel,
    signature_kernels,
    signature_mmd,
    unit_scale,
)


def walks(n, corners, dim, seed, size=0.3):
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(n, corners, dim, generator=generator, dtype=torch.float64).cumsum(1)


X, Y = walks(6, 5, 3, 0), walks(4, 7, 3, 1)


def lines(v):
    return (torch.tensor([[[0.0], [end]]], dtype=torch.float64) for end in (1.0, v))


def plain(x, y, bandwidth=None, scale=1.0, refinement=0):
    """The scheme of one pair, cell by cell."""
    if bandwidth is None:
        p = x.diff(dim=0) @ y.diff(dim=0).T
    else:
        squares = (x[:, None] - y[None]).square().sum(-1)
        p = (-squares / (2 * bandwidth**2)).exp().diff(dim=0).diff(dim=1)
    times = 2**refinement
    p = (scale**2 * p / times**2).repeat_interleave(times, 0).repeat_interleave(times, 1).numpy()
    k = np.ones((p.shape[0] + 1, p.shape[1] + 1))
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            k[i + 1, j + 1] = (k[i, j + 1] + k[i + 1, j]) * (1 + p[i, j] / 2 + p[i, j] ** 2 / 12)
            k[i + 1, j + 1] -= k[i, j] * (1 - p[i, j] ** 2 / 12)
    return k[-1, -1]


# --- the scheme ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("v", "truth"), [(0.25, 1.266066), (1.0, 2.279585), (2.0, 4.252351), (4.0, 11.301922), (-1.0, 0.223891)]
)
def test_straight_lines_are_bessel_functions(v, truth):
    exact = special.iv(0, 2 * np.sqrt(v)) if v > 0 else special.jv(0, 2 * np.sqrt(-v))
    assert exact == pytest.approx(truth, abs=1e-6)
    values = [float(signature_kernel(*lines(v), refinement=r)) for r in (6, 7, 8)]
    errors = np.abs(np.array(values) - exact)
    assert errors[:-1] / errors[1:] == pytest.approx(4, rel=0.05)  # second order
    # Extrapolated once, the scheme has the reference value to its last digit.
    assert (4 * values[-1] - values[-2]) / 3 == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize(("refinement", "value"), [(0, 2.25), (2, 2.28084), (4, 2.27971)])
def test_the_scheme_has_its_reference_values(refinement, value):
    assert float(signature_kernel(*lines(1.0), refinement=refinement)) == pytest.approx(value, abs=5e-6)


@pytest.mark.parametrize("bandwidth", [None, 0.7])
@pytest.mark.parametrize("refinement", [0, 1, 2])
def test_the_wavefront_is_the_plain_loop(bandwidth, refinement, monkeypatch):
    options = {"bandwidth": bandwidth, "refinement": refinement, "scale": 0.8}
    expected = np.array([[plain(x, y, **options) for y in Y] for x in X])
    same = np.array([[plain(x, y, **options) for y in X] for x in X])
    for block in (1 << 20, 100):
        monkeypatch.setattr(signature_kernels, "_BLOCK", block)
        np.testing.assert_allclose(signature_gram(X, Y, **options).numpy(), expected, rtol=1e-11)
        np.testing.assert_allclose(signature_gram(X, **options).numpy(), same, rtol=1e-11)
        np.testing.assert_allclose(signature_kernel(X[:4], Y, **options).numpy(), expected.diagonal(), rtol=1e-11)


def test_it_is_the_inner_product_of_signatures():
    x, y = walks(3, 4, 2, 0, 0.2), walks(3, 4, 2, 1, 0.2)
    inner = 1 + signature(x, 10) @ signature(y, 10).T
    coarse, fine = signature_gram(x, y, refinement=4), signature_gram(x, y, refinement=5)
    torch.testing.assert_close((4 * fine - coarse) / 3, inner, rtol=1e-6, atol=1e-6)


def test_corners_on_a_segment_and_a_pause_do_not_matter():
    paused = torch.cat([X[:, :2], X[:, 1:2], X[:, 2:]], dim=1)
    torch.testing.assert_close(signature_gram(paused, Y), signature_gram(X, Y))


@pytest.mark.parametrize("bandwidth", [None, 0.7])
def test_the_matrix_is_symmetric_and_positive_up_to_its_error(bandwidth):
    x = polyline(walks(80, 20, 2, 0), torch.arange(20.0))
    for refinement, error in ((0, 1e-5), (2, 1e-6)):
        gram = signature_gram(x, bandwidth=bandwidth, scale=unit_scale(x, bandwidth), refinement=refinement)
        assert bool((gram == gram.T).all())
        assert float(torch.linalg.eigvalsh(gram)[0]) > -error


@pytest.mark.parametrize(("dim", "truth"), [(1, 1.266066), (2, 1.566083), (3, 1.902910)])
def test_the_mean_signature_of_brownian_motion(dim, truth):
    assert special.iv(0, np.sqrt(dim)) == pytest.approx(truth, abs=1e-6)
    n, steps = 20_000, 32
    one, two = (
        torch.nn.functional.pad(walks(n, steps, dim, seed, 1 / np.sqrt(steps)), (0, 0, 1, 0)) for seed in (0, 1)
    )
    values = signature_kernel(one, two)
    # Straight steps take of the order of 1/steps from every level beyond the third.
    assert float(values.mean()) == pytest.approx(truth, abs=4 * float(values.std()) / np.sqrt(n) + 0.002)


# --- gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bandwidth", [None, 0.7])
@pytest.mark.parametrize("refinement", [0, 1])
def test_gradients_are_those_of_differences(bandwidth, refinement, monkeypatch):
    options = {"bandwidth": bandwidth, "refinement": refinement}
    monkeypatch.setattr(signature_kernels, "_BLOCK", 30)
    x, y = X[:3, :4, :2].clone().requires_grad_(), Y[:2, :3, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: signature_gram(a, b, **options), (x, y))
    assert torch.autograd.gradcheck(lambda a: signature_gram(a, **options), (x,))
    assert torch.autograd.gradcheck(lambda a, b: signature_kernel(a[:2], b, **options), (x, y))


def test_no_graph_where_none_is_wanted():
    x = X.clone().requires_grad_()
    with torch.no_grad():
        assert not signature_gram(x).requires_grad
    assert signature_gram(x).requires_grad
    assert signature_gram(X.float()).dtype == torch.float32


def test_descending_the_score_finds_the_law():
    """The mean of a family of straight lines is learned from outcomes through the score alone."""
    generator = torch.Generator().manual_seed(0)
    clock = torch.linspace(0, 1, 4)

    def drawn(slope):
        ends = slope + 0.3 * torch.randn(64, 1, generator=generator)
        return polyline((ends * clock)[..., None], clock)

    slope = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([slope], lr=0.05)
    for _ in range(80):
        x, y = drawn(slope), drawn(torch.ones(1))
        optimiser.zero_grad()
        kernel_score(signature_gram(x), signature_gram(x, y)).backward()
        optimiser.step()
    assert float(slope.detach()) == pytest.approx(1.0, abs=0.15)


def test_the_score_is_unbiased():
    means = []
    generator = torch.Generator().manual_seed(0)
    for n in (2, 40):
        scores = []
        for _ in range(4000 // n):
            x, y = (torch.randn(n, 1, generator=generator, dtype=torch.float64) for _ in range(2))
            grams = [torch.exp(-((a - b.T) ** 2) / 2) for a, b in ((x, x), (x, y))]
            scores.append(float(kernel_score(*grams)))
        means.append((np.mean(scores), np.std(scores) / np.sqrt(len(scores))))
    # E k(X, X') - 2 E k(X, y) for standard normals is -E k = -1/sqrt(3).
    for mean, error in means:
        assert mean == pytest.approx(-1 / np.sqrt(3), abs=4 * error)


# --- what it says at the door --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "more", "kind", "words"),
    [
        (X[0], Y, {}, ValueError, r"x must be polylines \(n, T, d\)"),
        (X, Y[:, :1], {}, ValueError, "y must be polylines"),
        (X, Y[..., :2], {}, ValueError, "same number of channels"),
        (X, Y.long(), {}, TypeError, "y must be of a floating type"),
        (X, Y, {"bandwidth": 0.0}, ValueError, "bandwidth must be positive"),
        (X, Y, {"scale": -1.0}, ValueError, "scale must be positive"),
        (X, Y, {"refinement": -1}, ValueError, "refinement must be 0 or more"),
    ],
)
def test_what_does_not_fit(x, y, more, kind, words):
    with pytest.raises(kind, match=words):
        signature_gram(x, y, **more)


def test_other_sentences():
    with pytest.raises(ValueError, match="equally many curves; got 6 and 4: see signature_gram"):
        signature_kernel(X, Y)
    with pytest.raises(ValueError, match="no curve moves"):
        unit_scale(torch.zeros(3, 4, 2))
    with pytest.raises(ValueError, match="two generated members or more; got 1"):
        kernel_score(torch.ones(1, 1), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"within must be \(n, n\)"):
        kernel_score(torch.ones(2, 2), torch.ones(3, 2))


# --- the discrepancy of laws ---------------------------------------------------------------------------------


def paths(n, seed, memory=0.9):
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(n, 8, 2))
    x = noise.copy()
    for k in range(1, 8):
        x[:, k] = memory * x[:, k - 1] + np.sqrt(1 - memory**2) * noise[:, k]
    return x


@pytest.mark.parametrize("bandwidth", [None, "median"])
def test_the_value_is_the_unbiased_discrepancy(bandwidth):
    x, y = paths(30, 0), paths(25, 1, memory=0.0)
    result = signature_mmd(x, y, bandwidth=bandwidth, n_permutations=0)
    mean, spread = x.reshape(-1, 2).mean(0), x.reshape(-1, 2).std(0)
    clock = torch.arange(8, dtype=torch.float64)
    one, two = (polyline(torch.from_numpy((side - mean) / spread), clock) for side in (x, y))
    width = result.extra["bandwidth"]
    if bandwidth is not None:
        assert width == pytest.approx(float(torch.pdist(one.flatten(0, 1)).median()), rel=0.01)
    options = {"bandwidth": width, "scale": unit_scale(one, width)}
    xx, yy, xy = (signature_gram(a, b, **options).numpy() for a, b in ((one, one), (two, two), (one, two)))
    off = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    assert result.value == pytest.approx(sum(off) - 2 * xy.mean(), abs=1e-12)
    assert result.p_value is None
    assert result.low < result.value < result.high


def test_the_size_of_the_test_is_its_level():
    p = [
        signature_mmd(paths(25, 2 * k), paths(30, 2 * k + 1), seed=k, n_bootstrap=0, n_permutations=99).p_value
        for k in range(200)
    ]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_another_level_is_found_out():
    assert signature_mmd(paths(150, 0), paths(150, 1) + 0.5, n_bootstrap=0).p_value == pytest.approx(1 / 200)


@pytest.mark.parametrize("bandwidth", [None, "median"])
def test_what_leads_and_what_lags_is_told_apart(bandwidth):
    """Each time's marginals, and each channel's law, are the same on both sides."""
    one, two = (np.sin(np.random.default_rng(s).uniform(0, 2 * np.pi, (100, 1)) + np.arange(10)) for s in (0, 1))
    leads, lags = np.stack([one[:, :-2], one[:, 2:]], -1), np.stack([two[:, 2:], two[:, :-2]], -1)
    assert signature_mmd(leads, lags, bandwidth=bandwidth, n_bootstrap=0).p_value == pytest.approx(1 / 200)


def test_of_more_paths_some_are_drawn():
    x, y = paths(60, 0), paths(20, 1)
    result = signature_mmd(x, y, max_paths=30, n_permutations=0)
    assert (result.n_real, result.n_generated) == (30, 20)
    assert result.value == signature_mmd(x, y, max_paths=30, n_permutations=0).value
    assert result.value != signature_mmd(x, y, max_paths=30, n_permutations=0, seed=1).value
    with pytest.raises(ValueError, match="max_paths must be at least 2; got 1"):
        signature_mmd(x, y, max_paths=1)


def test_sets_of_other_lengths_are_compared():
    times = np.sort(np.random.default_rng(0).uniform(0, 7, (20, 12)), axis=1)
    own = Paths(times, paths(20, 3)[:, [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 6, 7]])
    assert 0 < signature_mmd(paths(30, 0), own, n_bootstrap=0).p_value <= 1


def test_runaways_are_refused():
    x = paths(10, 0)
    with pytest.raises(ValueError, match="overflowed: generated paths vary .* times as much as real ones"):
        signature_mmd(x, 1e6 * x)
