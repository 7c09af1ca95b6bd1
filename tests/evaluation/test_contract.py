"""What every metric of the catalogue keeps: seeds, global random state, and odd but lawful input."""

import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from gendyn.data import Paths
from gendyn.evaluation import METRICS
from gendyn.evaluation.catalogue import Settings

# Fewer resamples and steps than usual: the contract is about what holds for any number of them.
FASTER = {
    "strong discriminative score": {"iterations": 5, "n_trials": 2},
    "discriminative score": {"iterations": 5, "n_trials": 2, "strong": False},
    "predictive score": {"iterations": 5, "n_trials": 1},
    "utility": {"iterations": 5, "n_trials": 1},
    "signature MMD^2": {"max_paths": 40, "n_permutations": 19},
    "power-spectrum distance": {"smoothing": 1.0},
}
CASES = [(name, kind) for name, metric in METRICS.items() for kind in metric.kinds]


def walks(n, seed, times=16, dim=2):
    return np.cumsum(np.random.default_rng(seed).normal(size=(n, times, dim)), axis=1)


def data(kind, dim=2, n=30, m=24):
    """Return real and generated data of one kind, of unequal sizes."""
    if kind == "populations":
        return walks(n, 0, dim=dim)[:, -1], walks(m, 1, dim=dim)[:, -1] + 0.3
    if kind == "forecasts":
        return walks(n, 0, dim=dim), walks(n * 20, 1, dim=dim).reshape(n, 20, 16, dim)
    if kind == "trajectories":
        return walks(1, 0, 600, dim), walks(1, 1, 600, dim)
    return walks(n, 0, dim=dim), walks(m, 1, dim=dim)


def fitting(name, kind, dim=2):
    """Return data that are enough for a metric."""
    return data(kind, dim, *{"rc-FID": (280, 270), "Frechet distance": (60, 50)}.get(name, (30, 24)))


def score(name, real, generated, seed=0):
    metric = METRICS[name]
    if name == "utility":
        real, generated = (
            Paths(range(x.shape[1]), x, labels=np.arange(len(x)) % 2) if not isinstance(x, Paths) else x
            for x in (real, generated)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metric.call(real, generated, Settings(seed, options=FASTER.get(name, {})))


def same(one, two):
    """Whether two results are equal in all but the time they took."""
    return repr(replace(one, seconds=0.0).to_dict()) == repr(replace(two, seconds=0.0).to_dict())


@pytest.mark.parametrize(("name", "kind"), CASES)
class TestEveryMetric:
    def test_one_seed_one_result_and_no_trace_in_data_or_global_state(self, name, kind):
        random.seed(1), np.random.seed(2), torch.manual_seed(3)
        before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
        given, kept = fitting(name, kind), fitting(name, kind)
        first, again = (score(name, *given) for _ in range(2))
        assert same(first, again)
        assert all((x == y).all() for x, y in zip(given, kept, strict=True))
        assert random.getstate() == before[0]
        assert (np.random.get_state()[1] == before[1]).all()
        assert torch.equal(torch.get_rng_state(), before[2])
        assert np.isfinite(first.value)
        assert first.n_real > 0
        assert first.seconds >= 0

    def test_neither_type_nor_layout_of_the_arrays_counts(self, name, kind):
        real, generated = (x.astype(np.float32) for x in fitting(name, kind))
        expected = score(name, real.astype(np.float64), generated.astype(np.float64))
        strided = [np.repeat(x, 2, axis=0)[::2] if kind != "trajectories" else x for x in (real, generated)]
        turned = [np.asfortranarray(x) for x in (real, generated)]
        tensors = [torch.from_numpy(x).requires_grad_() for x in (real, generated)]
        for pair in ((real, generated), strided, turned, tensors):
            assert score(name, *pair).value == pytest.approx(expected.value, rel=1e-6, abs=1e-9)

    def test_a_number_that_is_not_one_is_refused(self, name, kind):
        real, generated = data(kind)
        generated = generated.copy()
        generated[(0,) * generated.ndim] = np.nan
        with pytest.raises(ValueError, match=r"(?i)nan|finite"):
            score(name, real, generated)

    def test_one_feature(self, name, kind):
        real, generated = fitting(name, kind, dim=1)
        if name in ("predictive score", "correlational score"):
            with pytest.raises(ValueError, match="channel"):
                score(name, real, generated)
        else:
            assert np.isfinite(score(name, real, generated).value)

    def test_a_channel_that_never_changes_is_no_silent_nan(self, name, kind):
        real, generated = (x.copy() for x in fitting(name, kind, dim=3))
        real[..., 1] = generated[..., 1] = 2.0
        if name in ("energy score", "variogram score"):
            with pytest.raises(ValueError, match="channel 'x1' is constant in the real paths"):
                score(name, real, generated)
        else:
            assert np.isfinite(score(name, real, generated).value)

    def test_few_are_enough_or_a_sentence(self, name, kind):
        if kind == "trajectories":
            real, generated = walks(1, 0, 3), walks(1, 1, 3)
        elif kind == "forecasts":
            real, generated = walks(2, 0, 2), walks(4, 1, 2).reshape(2, 2, 2, 2)
        else:
            real, generated = (x[:3] for x in data(kind))
            real, generated = (x[:, :2] for x in (real, generated))
        result, words = None, ""
        try:
            result = score(name, real, generated)
        except ValueError as error:
            words = str(error)
        assert not np.isnan(result.value) if result else any(w in words for w in ("need", "at least", "must"))

    def test_shapes_that_do_not_fit_are_named(self, name, kind):
        real, generated = data(kind)
        with pytest.raises(ValueError, match=r"\d"):
            score(name, real, np.concatenate([generated, generated], axis=-1))
