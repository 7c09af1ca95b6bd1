"""Multi-time attention: its formula as loops over observations in NumPy, and what it implies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier

import gendyn as gd
from gendyn.data import drop_rows
from gendyn.sde import TimeAttention

NAN = float("nan")


def series(n=3, length=7, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, length, dim, generator=generator, dtype=torch.float64)
    x[torch.rand(x.shape, generator=generator) < 0.4] = NAN
    return x, torch.rand(n, length, generator=generator, dtype=torch.float64).div(length).cumsum(1)


def attention(**more):
    return TimeAttention(3, **({"out": 4, "embedding": 5, "heads": 2} | more)).double()


def by_hand(model, reference, times, x):
    """What one channel is from one reference time, by the head of each row."""
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}

    def embed(t, head):
        phase = w["frequencies"][head] * t + w["phases"][head]
        return np.concatenate([phase[:1], np.sin(phase[1:])])

    found = []
    for head in range(model.heads):
        query = embed(reference, head) @ w["query"][head]
        weights, values = [], []
        for t, value in zip(times, x, strict=True):
            if not np.isnan(value):
                weights.append(np.exp(query @ (embed(t, head) @ w["key"][head]) / np.sqrt(model.embedding)))
                values.append(value)
        found.append(np.average(values, weights=weights) if values else 0.0)
    return np.array(found)


def test_means_are_those_of_the_published_formula():
    x, times = series()
    x[1, :, 2] = NAN
    model, references = attention(), torch.linspace(0, 1, 4, dtype=torch.float64)
    means = model.means(references, times, x).detach().numpy()
    for b in range(3):
        for r, reference in enumerate(references.tolist()):
            for d in range(3):
                told = by_hand(model, reference, times[b].numpy(), x[b, :, d].numpy())
                assert np.abs(means[b, r, :, d] - told).max() < 1e-12
    ever = np.ones((3, 4, 2, 3))
    ever[1, :, :, 2] = 0
    told = np.concatenate([means, ever], axis=3).reshape(3, 4, -1)
    weight, bias = model.mix.weight.detach().numpy(), model.mix.bias.detach().numpy()
    assert np.allclose(model(references, times, x).detach().numpy(), told @ weight.T + bias, atol=1e-12)


def test_order_holes_and_padding_do_not_matter():
    x, times = series()
    model, references = attention(), torch.linspace(0, 1, 4, dtype=torch.float64)
    told = model(references, times, x)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(references, times[:, order], x[:, order]), told, atol=1e-12)
    nothing = torch.full((3, 2, 3), NAN, dtype=torch.float64)
    longer = torch.cat([times, times[:, -1:].expand(-1, 2)], dim=1)
    assert torch.allclose(model(references, longer, torch.cat([x, nothing], dim=1)), told, atol=1e-12)


def test_a_constant_channel_is_constant_from_everywhere_and_far_observations_count_where_there_are_no_others():
    x, times = series()
    x = 0 * x + 2.5
    model = attention()
    with torch.no_grad():
        model.query.mul_(1e4)  # scores hundreds apart
    means = model.means(torch.linspace(0, 1, 4, dtype=torch.float64), times, x)
    seen = (~x.isnan()).any(1)[:, None, None].expand(means.shape)
    assert torch.allclose(means[seen], torch.tensor(2.5, dtype=torch.float64), atol=1e-12)
    single = model.float().means(torch.linspace(0, 1, 4), times.float(), x.float())
    assert torch.allclose(single[seen], torch.tensor(2.5), atol=1e-5)


def test_gradients_reach_every_parameter():
    x, times = series()
    model = attention()
    model(torch.linspace(0, 1, 4, dtype=torch.float64), times, x).square().sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters())


def waves(n=60, length=40, seed=0):
    """Slow and fast waves of random phase."""
    generator = torch.Generator().manual_seed(seed)
    y = np.array(["slow", "fast"])[np.arange(n) % 2]
    t = torch.linspace(0, 6.28, length)
    x = torch.sin((1 + torch.arange(n) % 2)[:, None] * t + 6.28 * torch.rand(n, 1, generator=generator))
    return (x + 0.1 * torch.randn(n, length, generator=generator))[:, :, None], y


def small(**more):
    return gd.MTANClassifier(**{"hidden": 16, "references": 12, "embedding": 16, "lr": 1e-2} | more)


def test_the_classifier_tells_waves_apart_with_holes():
    (x, y), (xt, yt) = waves(120), waves(seed=1)
    holes, asked = (drop_rows(gd.Paths(range(40), v), 0.3, seed=1) for v in (x, xt))
    model = small(epochs=60).fit(holes, y, progress=False)
    assert model.score(asked, yt) >= 0.9
    # A row of holes is as no row at all, if a series begins where it did.
    rows = [k for k in range(60) if not bool(asked.values[k, 0].isnan())]
    ragged = [asked.values[k][~asked.values[k].isnan().any(1)].numpy() for k in rows]
    times = [np.flatnonzero(~asked.values[k].isnan().any(1).numpy()) for k in rows]
    alone, whole = model.predict_proba(ragged, times=times), model.predict_proba(asked)
    assert np.abs(alone - whole[rows]).max() < 1e-5


def test_the_unit_of_time_does_not_matter():
    (x, y), (xt, _) = waves(), waves(seed=1)
    t = torch.arange(40.0, dtype=torch.float64)
    found = []
    for unit in (1.0, 1000.0):
        model = small(epochs=2, patience=None).fit(x, y, times=t * unit, progress=False)
        found.append(model.predict_proba(xt, times=t * unit))
    assert np.allclose(*found, atol=1e-5)


def test_it_is_a_classifier_of_scikit_learn_and_has_an_answer_when_nobody_looked():
    x, y = waves(20)
    model = small(epochs=1)
    assert is_classifier(model)
    assert clone(model).get_params() == model.get_params()
    model.fit(x, y, static=np.arange(20.0), progress=False)
    odds = model.predict_proba(torch.full((1, 40, 1), NAN), static=[NAN])
    assert np.isfinite(odds).all()
    assert odds.sum() == pytest.approx(1.0)
    seen = model.sample(x[:2], [0.0, 3.0], n=2)
    assert torch.equal(seen.values[0], seen.values[1])
    with pytest.raises(TypeError, match="takes no options; got solver"):
        model.sample(solver="euler")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"references": 0}, "references must be at least 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"embedding": 1}, "embedding must be at least 2"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_hyper_parameters_out_of_range_have_a_sentence(options, message):
    x, y = waves(20)
    model = small(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, progress=False)
    assert not hasattr(model, "process_")


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"embedding at least 2; got 1, 1, 1 and 1"):
        TimeAttention(1, 1, 1)
