"""Ridge regression that leaves out groups: against scikit-learn's, fitted anew without each group."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from gendyn.sde.grouped_ridge import GroupedRidge
from gendyn.sde.ridge import Ridge as OwnRidge
from gendyn.sde.surroundings import SurroundingsRidge

STRENGTHS = np.logspace(-4, 5, 28)


def _data(n=90, features=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)) * rng.uniform(0.5, 4, features) + rng.normal(size=features)
    return x, x[:, 0] - 0.5 * x[:, 1] + rng.normal(size=n), np.arange(n) // 7 % 3


def test_it_is_the_best_of_all_regressions_that_leave_out_each_group():
    x, y, groups = _data()
    sets = [[0], [0, 1], list(range(6))]
    found = GroupedRidge.fit(*(torch.from_numpy(a) for a in (x, y, groups)), sets)
    z = (x - x.mean(0)) / x.std(0)
    best = (np.inf,)
    for number, columns in enumerate(sets):
        for strength in STRENGTHS:
            said = np.empty_like(y)
            for k in range(3):
                fitted = Ridge(alpha=strength).fit(z[groups != k][:, columns], y[groups != k])
                said[groups == k] = fitted.predict(z[groups == k][:, columns])
            error = ((said - y) ** 2).sum()
            if error < best[0]:
                best = (error, number, strength, said)
    _, number, strength, said = best
    assert found.chosen == number
    assert np.allclose(found.left_out.numpy(), said, atol=1e-8)
    plain = Ridge(alpha=strength).fit(z[:, sets[number]], y).predict(z[:, sets[number]])
    assert np.allclose(x @ found.weight.numpy() + float(found.bias), plain, atol=1e-8)


def test_a_constant_feature_changes_nothing():
    x, y, groups = (torch.from_numpy(a) for a in _data())
    more = torch.cat([x, torch.full_like(x[:, :1], 3.0)], 1)
    plain = GroupedRidge.fit(x, y, groups, [range(6)])
    found = GroupedRidge.fit(more, y, groups, [range(7)])
    assert torch.allclose(found.left_out, plain.left_out, atol=1e-8)
    assert found.weight[6] == 0


def test_one_group_is_refused():
    with pytest.raises(ValueError, match="to leave out groups there must be two"):
        GroupedRidge.fit(torch.rand(5, 2), torch.rand(5), torch.zeros(5, dtype=torch.int64), [[0]])


def test_what_copies_of_a_series_say_of_it_is_left_out_with_it():
    generator = torch.Generator().manual_seed(0)
    # A channel's outcome is a random number of its series; its surroundings tell which series it is, and no more.
    told = torch.randn(40, 6, 1, 7, generator=generator)
    outcome = torch.randn(40, 1, 1, generator=generator).expand(-1, 6, -1)
    told[..., 0] = 0.01 * outcome[..., 0, None].expand(-1, 6, 1) + torch.arange(40.0)[:, None, None]
    told = torch.cat([told, told])
    whose = torch.arange(40).repeat(2)
    _, left_out = SurroundingsRidge.fit(
        told, torch.cat([outcome, outcome]), torch.rand(80, 6, generator=generator), near=0.1, series=whose
    )
    # Nothing can be known, so nothing beats the mean by more than chance.
    assert (left_out - torch.cat([outcome, outcome])).square().mean() > 0.9 * outcome.square().mean()


def test_of_one_series_stretches_are_left_out():
    generator = torch.Generator().manual_seed(0)
    told = torch.randn(1, 60, 1, 7, generator=generator)
    outcome = 2 * told[..., 0] + 0.1 * torch.randn(1, 60, 1, generator=generator)
    ridge, left_out = SurroundingsRidge.fit(told, outcome, torch.linspace(0, 1, 60)[None], near=0.1)
    assert (left_out - outcome).square().mean().sqrt() < 0.15
    assert ridge.deviation[0, 0] == pytest.approx(0.1, rel=0.4)


def test_blocks_are_left_out_whole():
    x, y, _ = _data(n=47)
    found, left_out = OwnRidge.fit(torch.from_numpy(x), torch.from_numpy(y)[:, None], blocks=5)
    z = (x - x.mean(0)) / x.std(0)
    best = (np.inf,)
    for strength in STRENGTHS:
        said = np.empty_like(y)
        for rows in np.array_split(np.arange(47), 5):
            kept = np.setdiff1d(np.arange(47), rows)
            said[rows] = Ridge(alpha=strength).fit(z[kept], y[kept]).predict(z[rows])
        error = ((said - y) ** 2).sum()
        if error < best[0]:
            best = (error, strength, said)
    _, strength, said = best
    assert np.allclose(left_out[:, 0].numpy(), said, atol=1e-5)
    assert np.allclose(found(torch.from_numpy(x))[:, 0].numpy(), Ridge(alpha=strength).fit(z, y).predict(z), atol=1e-8)


def test_a_clipped_regression_says_no_more_beyond_its_clip():
    x, y, _ = _data()
    found, _ = OwnRidge.fit(torch.from_numpy(x), torch.from_numpy(y)[:, None], clip=2.0)
    far = torch.from_numpy(x[:3]).clone()
    far[:, 0] = found.shift[0] + 2 * found.scale[0]
    further = far.clone()
    further[:, 0] += 1e6
    assert torch.equal(found(far), found(further))
    again = OwnRidge.from_state(found.state_dict())
    assert torch.equal(again(further), found(further))
