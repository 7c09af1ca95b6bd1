"""What goes wrong with neural SDEs of irregular series, and what is said or done about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gendyn as gd
from gendyn.sampling import NonFiniteStateError
from gendyn.sde.noise_level import NoiseLevel
from gendyn.sde.series_inputs import epoch_rows
from gendyn.sde.stable_field import StableField
from gendyn.training import TrainingDiverged


def waves(n=40, length=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = np.array(["slow", "fast"])[np.arange(n) % 2]
    t = torch.linspace(0, 6.28, length)
    x = torch.sin((1 + torch.arange(n) % 2)[:, None] * t + 6.28 * torch.rand(n, 1, generator=generator))
    return (x + 0.1 * torch.randn(n, length, generator=generator))[:, :, None], y


def small(**more):
    return gd.StableSDEClassifier(**{"hidden": 8, "epochs": 2, "step": 1 / 8} | more)


def test_paths_that_run_away_are_told(monkeypatch):
    begin = StableField.begin
    monkeypatch.setattr(StableField, "begin", lambda self, x, static=None: 1e6 * begin(self, x, static))
    x, y = waves()
    with pytest.warns(UserWarning, match=r"100 % of latent paths leave \|z\| < 1000; take a smaller lr or step"):
        small().fit(x, y, progress=False)


@pytest.mark.parametrize("kind", ["langevin", "geometric"])
def test_noise_that_has_died_is_told(monkeypatch, kind):
    init = NoiseLevel.__init__

    def dead(self, *args, **options):
        init(self, *args, **options)
        with torch.no_grad():
            self.out.bias.fill_(-1e3)

    monkeypatch.setattr(NoiseLevel, "__init__", dead)
    x, y = waves()
    with pytest.warns(UserWarning, match="the noise has died"):
        small(kind=kind).fit(x, y, progress=False)


def test_noise_of_the_exact_families_cannot_die():
    noise = NoiseLevel("mlp(time)", 4, bounded=False, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        noise.out.bias.fill_(-50.0)
    assert bool((noise.table(torch.linspace(0, 1, 5)[:, None]) > 0).all())


def test_no_batch_is_one_series_that_is_left_over():
    for n in range(2, 150):
        for size in (2, 16, 128):
            steps = -(-n // size)
            sizes = [len(epoch_rows(n, size, step, 0)) for step in range(steps)]
            assert sum(sizes) == n
            assert max(sizes) - min(sizes) <= 1


def test_what_a_mask_hides_does_not_matter():
    x, y = waves()
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    told = []
    for under in (0.0, 1e3):
        paths = gd.Paths(range(30), torch.where(seen, x, under), seen, labels=y)
        told.append(small().fit(paths, progress=False).predict_proba(paths))
    assert np.array_equal(*told)


def test_a_fit_that_diverges_stops_with_a_sentence():
    x, y = waves()
    model = small(residual=False, lr=1e30, clip=None, patience=None, epochs=20)
    # Whichever is first: a state of the sampler, or the loss.
    with pytest.raises((TrainingDiverged, NonFiniteStateError), match="not finite|diverged"):
        model.fit(x, y, progress=False)
    assert not hasattr(model, "process_")


def test_probabilities_are_means_over_noise_paths():
    x, y = waves()
    model = small(residual=False, epochs=4).fit(x, y, progress=False)
    apart = {}
    for n in (1, 64):
        model.n_samples = n
        odds = np.stack([model.predict_proba(x, seed=s)[:, 0] for s in range(20)])
        apart[n] = odds.var(0, ddof=1).mean()
    assert 30 < apart[1] / apart[64] < 130


def test_latent_paths_of_an_outlier_are_those_that_are_classified():
    x, y = waves()
    model = small().fit(x, y, progress=False)
    paths = []
    for value in (100.0, 1e7):
        spoilt = x[:2].clone()
        spoilt[:, 10] = value
        paths.append(model.sample(spoilt, seed=1).values)
    assert torch.equal(*paths)


def test_dates_lose_nothing_to_single_precision():
    x, y = waves()
    t = torch.arange(30, dtype=torch.float64)
    found = [small().fit(x, y, times=t + at, progress=False).predict_proba(x, times=t + at) for at in (0.0, 1.7e9)]
    assert np.allclose(*found, atol=1e-5)
