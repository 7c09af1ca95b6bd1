"""What every distance must do, whatever it is made of: one line a metric."""

import numpy as np
import pytest
import torch

from gendyn import evaluation as ev

POPULATIONS = {
    "W1": lambda x, y, **k: ev.wasserstein(x, y, **k),
    "W2": lambda x, y, **k: ev.wasserstein(x, y, p=2, **k),
    "debiased W2": lambda x, y, **k: ev.debiased_wasserstein(x, y, **k),
    "sliced W2": lambda x, y, **k: ev.sliced_wasserstein(x, y, **k),
    "max-sliced W2": lambda x, y, **k: ev.max_sliced_wasserstein(x, y, **k),
    "energy": lambda x, y, **k: ev.energy_distance(x, y, **k),
    "energy (V)": lambda x, y, **k: ev.energy_distance(x, y, unbiased=False, **k),
    "MMD": lambda x, y, **k: ev.mmd(x, y, bandwidths=(1.0,), **k),
    "MMD (V)": lambda x, y, **k: ev.mmd(x, y, bandwidths=(1.0,), unbiased=False, **k),
    "Frechet": lambda x, y, **k: ev.frechet_distance(x, y, **k),
    "KDE-KL": lambda x, y, **k: ev.kde_kl(x, y, **k),
}
SETS = {
    "marginal W1": lambda x, y, **k: ev.marginal_wasserstein(x, y, scale=None, **k),
    "signature": lambda x, y, **k: ev.signature_distance(x, y, scale=None, **k),
    "signature MMD": lambda x, y, **k: ev.signature_mmd(x, y, n_permutations=0, scale=None, **k),
    "rc_fid": lambda x, y, **k: ev.rc_fid(x, y, **k),
    "marginal KDE-KL": lambda x, y, **k: ev.marginal_kde_kl(x, y, **k),
}
ALL = POPULATIONS | SETS

ASYMMETRIC = {"KDE-KL", "marginal KDE-KL", "signature MMD", "rc_fid"}
"""Scales, bandwidths or features come from the real sample, or the divergence is not symmetric."""

PARTED = {"debiased W2", "Frechet", "rc_fid"}
"""These part their samples at random, so equal samples do not give zero and their order matters a little."""

UNBIASED = {"energy", "MMD", "signature MMD"}


def sample(name, n, seed, shift=0.0):
    generator = np.random.default_rng(seed)
    if name in POPULATIONS:
        return generator.normal(shift, 1, size=(n, 3))
    return (generator.normal(0, 0.5, size=(n, 8, 2)).cumsum(axis=1) + shift * np.linspace(0.5, 1.5, 8)[:, None]) / 2


def size(name):
    return 280 if name == "rc_fid" else 60


@pytest.mark.parametrize("name", sorted(set(ALL) - ASYMMETRIC))
def test_neither_side_comes_first(name):
    x, y = sample(name, 60, 0), sample(name, 60, 1, 0.5)
    one, two = ALL[name](x, y, n_bootstrap=0), ALL[name](y, x, n_bootstrap=0)
    if name in PARTED:
        assert one.value == pytest.approx(two.value, rel=0.5)
    else:
        assert one.value == pytest.approx(two.value, rel=1e-7)


@pytest.mark.parametrize("name", sorted(set(ALL) - PARTED - UNBIASED))
def test_a_sample_is_at_no_distance_from_itself(name):
    x = sample(name, 60, 0)
    assert ALL[name](x, x.copy(), n_bootstrap=0).value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", sorted(ALL))
def test_order_does_not_matter(name):
    n = size(name)
    x, y = sample(name, n, 0), sample(name, n - 10, 1, 0.5)
    order = np.random.default_rng(2)
    one = ALL[name](x, y, n_bootstrap=0)
    two = ALL[name](order.permutation(x), order.permutation(y), n_bootstrap=0)
    if name in PARTED - {"debiased W2"}:
        assert one.extra["at_n"] == pytest.approx(two.extra["at_n"], rel=1e-7)
    elif name not in PARTED:
        assert one.value == pytest.approx(two.value, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_more_is_mixed_in_the_farther_it_is(name):
    n = 700 if name == "rc_fid" else 400
    x, clean, shifted = sample(name, n, 0), sample(name, n, 1), sample(name, n, 2, 2.0)
    values = []
    for share in (0.0, 0.1, 0.25, 0.5):
        mixed = clean.copy()
        mixed[: int(share * n)] = shifted[: int(share * n)]
        values.append(ALL[name](x, mixed, n_bootstrap=0).value)
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("name", sorted(ALL))
def test_other_layouts_and_types_of_the_same_numbers(name):
    n = size(name)
    x, y = np.round(8 * sample(name, n, 0)), np.round(8 * sample(name, n - 10, 1, 0.5))
    truth = ALL[name](x, y).to_dict() | {"seconds": 0}
    strided = np.asfortranarray(np.repeat(x, 2, axis=0))[::2]
    for other in (strided, x.astype(np.int64), x.astype(np.float32), torch.from_numpy(x)):
        assert ALL[name](other, y).to_dict() | {"seconds": 0} == truth


@pytest.mark.parametrize("name", sorted(ALL))
def test_equal_seeds_give_equal_results_and_touch_nothing(name):
    n = size(name)
    x, y = sample(name, n, 0), sample(name, n, 1, 0.3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, two = (ALL[name](x, y, seed=5).to_dict() | {"seconds": 0} for _ in range(2))
    assert one == two
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert one["low"] <= one["value"] <= one["high"]
    assert np.isfinite(one["floor"])


@pytest.mark.parametrize("name", sorted(ALL))
def test_one_channel_two_times_and_few_rows(name):
    if name in ("rc_fid",):
        with pytest.raises(ValueError, match="at least 7 times"):
            ALL[name](np.zeros((5, 2, 1)), np.zeros((5, 2, 1)))
        return
    few = {"debiased W2": 8, "Frechet": 16}.get(name, 2)
    generator = np.random.default_rng(0)
    shape = (1,) if name in POPULATIONS else (2, 1)
    value = ALL[name](generator.random((few, *shape)), generator.random((few + 1, *shape)), n_bootstrap=5).value
    assert np.isfinite(value)


@pytest.mark.parametrize("name", sorted(ALL))
def test_one_hole_is_named(name):
    n = size(name)
    x, y = sample(name, n, 0), sample(name, n, 1)
    y[3, 1] = np.nan
    with pytest.raises(ValueError, match=rf"generated .*must be finite; got NaN or infinity in 1 of {n}"):
        ALL[name](x, y)
    if name in SETS:
        result = ALL[name](x, y, on_nan="count", n_bootstrap=0)
        assert result.extra["dropped"] == 1
        assert result.n_generated == n - 1


GOOD = np.zeros((3, 2))


@pytest.mark.parametrize("name", sorted(POPULATIONS))
@pytest.mark.parametrize(
    ("real", "generated", "more", "message"),
    [
        (GOOD, np.zeros((3, 3)), {}, "same number of features"),
        (np.zeros((0, 2)), GOOD, {}, "at least one row"),
        (np.zeros((2, 2, 2)), GOOD, {}, r"shape \(n, d\)"),
        (np.array([[np.nan, 0.0], [0.0, 0.0]]), GOOD, {}, "NaN or infinity in 1 of 2 rows"),
        (GOOD, GOOD, {"weights_real": torch.ones(2)}, r"weights_real must have shape \(3,\)"),
        (GOOD, GOOD, {"weights_generated": torch.tensor([1.0, -1.0, 1.0])}, "non-negative"),
        (GOOD, GOOD, {"weights_real": torch.zeros(3)}, "not all zero"),
    ],
)
def test_unfit_samples(name, real, generated, more, message):
    with pytest.raises(ValueError, match=message):
        POPULATIONS[name](real, generated, **more)


@pytest.mark.parametrize("name", sorted(SETS))
def test_unfit_sets(name):
    x = sample(name, 5, 0)
    with pytest.raises(ValueError, match=r"same number of channels; got \(5, 8, 2\) and \(5, 8, 1\)"):
        SETS[name](x, x[..., :1])
    if not name.startswith("signature"):
        with pytest.raises(ValueError, match="at the same times; got 8 and 7 times"):
            SETS[name](x, x[:, :7])
