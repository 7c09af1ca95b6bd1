"""Control paths against SciPy, against numbers worked out by hand, and each series against itself alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from gendyn.data import ControlPath, Paths, observation_counts, time_since_observation

METHODS = ("rectilinear", "linear", "hermite", "natural")


def ragged(seed: int = 0, batch: int = 5, length: int = 12, dim: int = 3):
    """Series of different lengths with holes in every channel; one channel was seen once, one never."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 4, (batch, length)), axis=1)
    lengths = rng.integers(3, length + 1, batch)
    lengths[0] = length
    for i, n in enumerate(lengths):
        times[i, n:] = times[i, n - 1]
    values = rng.normal(size=(batch, length, dim))
    mask = rng.random((batch, length, dim)) < 0.6
    mask[1, :, 0] = False
    mask[2, :, 1] = np.arange(length) == 1
    mask &= np.arange(length)[None, :, None] < lengths[:, None, None]
    values[~mask] = np.nan
    return tuple(torch.from_numpy(v) for v in (times, values, mask, lengths))


def reference(method: str, t: np.ndarray, x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the same path of one channel by NumPy and SciPy; ``x`` is NaN where nothing was observed."""
    seen = ~np.isnan(x)
    if not seen.any():
        return np.zeros_like(q)
    q = np.clip(q, t[0], t[-1])
    if method == "rectilinear":
        place = np.searchsorted(t[seen], q, side="right") - 1
        return np.where(place >= 0, x[seen][np.maximum(place, 0)], 0.0)
    filled = np.interp(t, t[seen], x[seen])
    if method == "linear":
        return np.interp(q, t[seen], x[seen])
    if method == "hermite":
        slopes = np.diff(filled) / np.diff(t)
        return CubicHermiteSpline(t, filled, np.r_[slopes[0], slopes])(q)
    knots = seen.copy()
    knots[[0, -1]] = True
    return CubicSpline(t[knots], filled[knots], bc_type="natural")(q)


@pytest.mark.parametrize("method", METHODS)
def test_each_channel_is_what_scipy_makes_of_it(method):
    times, values, mask, lengths = ragged()
    asked = torch.sort(torch.rand(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 5 - 0.5)[0]
    asked = torch.cat([asked, times], dim=1)
    found = ControlPath(times, values, mask, lengths, method)(asked)
    for i, n in enumerate(lengths):
        for c in range(3):
            expected = reference(method, times[i, :n].numpy(), values[i, :n, c].numpy(), asked[i].numpy())
            np.testing.assert_allclose(found[i, :, c].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("method", METHODS[1:])
def test_derivatives_are_differences(method):
    times, values, mask, lengths = ragged(3)
    path = ControlPath(times, values, mask, lengths, method)
    first, last = times[:, :1], times[:, -1:]
    # Away from knots, where even the linear path has a derivative.
    middle = (times[:, 1:] + times[:, :-1]) / 2
    step = 1e-6
    numeric = (path(middle + step) - path(middle - step)) / (2 * step)
    inside = (times.diff(dim=1) > 1e-4)[:, :, None]
    assert torch.allclose(
        torch.where(inside, path.derivative(middle) - numeric, 0.0), torch.zeros(1).double(), atol=1e-6
    )
    assert not path.derivative(torch.cat([first - 1, last + 1], dim=1)).any()


def test_numbers_worked_out_by_hand():
    t, x = torch.arange(3.0), torch.tensor([[[0.0], [1.0], [0.0]]]).double()
    natural = ControlPath(t, x, method="natural")
    assert natural(torch.tensor([0.5, 1.5])).flatten().tolist() == pytest.approx([0.6875, 0.6875])
    assert natural.derivative(torch.tensor([0.0])).item() == pytest.approx(1.5)
    hermite = ControlPath(t, x, method="hermite")
    assert hermite(torch.tensor([0.5, 1.5])).flatten().tolist() == pytest.approx([0.5, 0.75])
    t = torch.tensor([0.0, 0.5, 2.0, 3.0])
    x = torch.tensor([torch.nan, 1.0, torch.nan, 3.0]).double()[None, :, None]
    asked = torch.tensor([0.0, 0.25, 1.0, 2.0, 2.5, 3.0])
    natural, hermite = (ControlPath(t, x, method=m)(asked).flatten().tolist() for m in ("natural", "hermite"))
    assert natural == pytest.approx([1, 0.9875, 1.16, 1.92, 2.44, 3])
    assert hermite == pytest.approx([1, 1, 1.2222222, 2.2, 2.6, 3])


@pytest.mark.parametrize("method", METHODS)
def test_a_series_in_a_batch_is_the_series_alone(method):
    times, values, mask, lengths = ragged(5)
    asked = torch.linspace(-1, 6, 50, dtype=torch.float64)
    whole = ControlPath(times, values, mask, lengths, method)(asked)
    for i, n in enumerate(lengths):
        alone = ControlPath(times[i, :n], values[i : i + 1, :n], mask[i : i + 1, :n], method=method)(asked)
        assert torch.allclose(whole[i], alone[0], atol=1e-12)


def test_only_the_rectilinear_path_is_causal():
    """Change the last row: what a path was before the row before it may depend on it only as documented."""
    times = torch.arange(6.0)
    one = torch.randn(1, 6, 1, generator=torch.Generator().manual_seed(0)).double()
    two = one.clone()
    two[:, -1] += 1
    asked = torch.linspace(0, 4.99, 80, dtype=torch.float64)
    moved = {
        m: (
            (ControlPath(times, one, method=m)(asked) - ControlPath(times, two, method=m)(asked)).abs() > 1e-12
        ).flatten()
        for m in METHODS
    }
    first = {m: float(asked[moved[m]].min()) if moved[m].any() else np.inf for m in METHODS}
    assert first["rectilinear"] == np.inf
    assert 4 < first["linear"] < 4.1
    assert 4 < first["hermite"] < 4.1
    assert first["natural"] < 0.1


def test_paths_shared_times_and_types():
    paths = Paths([0.0, 1.0, 3.0], torch.tensor([[0.0, 1.0, 2.0], [0.0, torch.nan, 3.0]]), mask=[[1, 1, 1], [1, 0, 1]])
    found = ControlPath.of(paths, "linear")(torch.tensor([0.5, 2.0]))
    assert found.dtype == torch.float32
    assert found[..., 0].tolist() == [[0.5, 1.5], [0.5, 2.0]]


def test_gradients_reach_the_values():
    x = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    asked = torch.tensor([0.3, 2.7, 4.0])
    for method in METHODS:
        assert torch.autograd.gradcheck(lambda v, m=method: ControlPath(torch.arange(5.0), v, method=m)(asked), (x,))


def test_one_time_is_a_constant_with_a_warning():
    with pytest.warns(UserWarning, match="1 series have one time each"):
        path = ControlPath(torch.tensor([[2.0]]), torch.tensor([[[5.0]]]), method="natural")
    assert path(torch.tensor([0.0, 2.0, 9.0])).flatten().tolist() == [5.0, 5.0, 5.0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="must be one of rectilinear, linear, hermite, natural; got 'cubic'"):
        ControlPath(torch.arange(3.0), torch.zeros(1, 3, 1), method="cubic")
    with pytest.raises(ValueError, match=r"needs values \(B, L, D\) at times"):
        ControlPath(torch.arange(4.0), torch.zeros(1, 3, 1))
    with pytest.raises(ValueError, match=r"shape \(Q,\) or \(1, Q\)"):
        ControlPath(torch.arange(3.0), torch.zeros(1, 3, 1))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="jumps and has no derivative"):
        ControlPath(torch.arange(3.0), torch.zeros(1, 3, 1), method="rectilinear").derivative(torch.zeros(1))


def test_time_since_observation_and_counts():
    mask = torch.tensor([[1, 0, 0, 1, 1], [0, 0, 1, 0, 0]]).bool()[:, :, None]
    times = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 1.0, 4.0, 4.0]])
    assert time_since_observation(times, mask)[..., 0].tolist() == [[0, 1, 2, 3, 1], [0, 0.5, 1, 3, 3]]
    assert observation_counts(mask)[..., 0].tolist() == [[1, 1, 1, 2, 3], [0, 0, 1, 1, 1]]
