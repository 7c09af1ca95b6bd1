"""Cells that multiply: nobody changes sides for it, weights say who became many, and whole populations come out."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import gendyn as gd
from gendyn.coupling import bridge_plan, static_bridge

CELLS = Path(os.environ.get("GENDYN_DATA", "/nowhere")) / "biology" / "wot_serum_250cells.npz"


def sides(n=60, seed=0, gap=1.0, sigma=0.2):
    """Half of the cells on either side; those on the right double, then double again."""
    generator = torch.Generator().manual_seed(seed)

    def side(place, size):
        return place + sigma * torch.randn(size, 1, generator=generator, dtype=torch.float64)

    samples = [torch.cat([side(-5, n), side(5, n * 2**k)]) for k in range(3)]
    return gd.Snapshots([0.0, gap, 2 * gap], samples)


def right(t, x):
    return math.log(2) * (x[:, 0] > 0).double()


def test_growth_that_is_known_moves_nobody_across():
    """Half of the mass becomes two thirds: a sixth crosses in balance, and none where cells on the right double."""
    tau, x = 2.0, torch.tensor([[-5.0], [5.0]], dtype=torch.float64)
    weights = [torch.tensor([0.5, 0.5]), torch.tensor([1 / 3, 2 / 3])]
    data = gd.Snapshots([0.0, tau], [x, x], weights=weights)
    crossing = {}
    for name, rate in (("balanced", None), ("growing", lambda t, z: right(t, z) / tau)):
        model = gd.SchrodingerBridge(sigma=0.3 * 30, growth_rate=rate).fit(data, progress=False)
        wide = model.bridge_.plans[0].to_dense()
        assert torch.allclose(wide.sum(1), torch.tensor([0.5, 0.5]).double() if rate is None else wide.sum(0))
        model = gd.SchrodingerBridge(sigma=0.3, growth_rate=rate, max_iterations=100_000).fit(data, progress=False)
        dense = model.bridge_.plans[0].to_dense()
        crossing[name] = float(dense[0, 1] + dense[1, 0])
    assert crossing["balanced"] == pytest.approx(1 / 6, abs=1e-5)
    assert crossing["growing"] < 1e-6
    assert model.history_["mass"].tolist() == pytest.approx([1.5])


def test_weights_grow_at_the_known_rate_and_make_the_populations():
    data = sides()
    model = gd.SchrodingerBridge(sigma=0.5, growth_rate=right).fit(data, progress=False)
    paths, logs = model.sample_weighted(n=3000, times=[0.0, 0.5, 1.0, 2.0])
    grown = paths.values[:, 0, 0] > 0
    for k, t in enumerate((0.0, 0.5, 1.0, 2.0)):
        expected = t * math.log(2) * grown.double()
        torch.testing.assert_close(logs[:, k], expected, atol=1e-6, rtol=0)
    assert float(logs[:, -1].exp().mean()) == pytest.approx(2.5, rel=0.01)
    for k, t in ((2, 1.0), (3, 2.0)):
        truth, weight = data.population(t), logs[:, k].exp() / logs[:, k].exp().sum()
        assert float((weight * grown).sum()) == pytest.approx(float((truth > 0).double().mean()), abs=0.01)
        assert float(weight @ paths.values[:, k, 0]) == pytest.approx(float(truth.mean()), abs=0.1)
    # Without weights points stand for equally many cells.
    middle = model.interpolate(0.5, 4000)
    assert float((middle > 0).double().mean()) == pytest.approx(math.sqrt(2) / (1 + math.sqrt(2)), abs=0.01)


def test_growth_is_learned_where_missing_it_has_a_price():
    data = sides()
    balanced = gd.SchrodingerBridge(sigma=0.5).fit(data, progress=False)
    learned = gd.SchrodingerBridge(sigma=0.5, relaxation=(2.0, math.inf), growth_iterations=4)
    learned.fit(data, progress=False)
    crossing = []
    for model in (balanced, learned):
        dense = model.bridge_.plans[0].to_dense()
        crossing.append(float(dense[:60, 60:].sum() + dense[60:, :60].sum()))
    assert crossing[0] == pytest.approx(1 / 6, abs=1e-4)
    assert crossing[1] < 1e-3
    rates = learned.growth(data.only([0.0, 1.0]))
    for rate, x in zip(rates, data.samples[:2], strict=True):
        # The couplings have the mass of the earlier population: only differences are known.
        apart = float(rate[x[:, 0] > 0].mean() - rate[x[:, 0] < 0].mean())
        assert apart == pytest.approx(math.log(2), rel=0.02)
    _, logs = learned.sample_weighted(n=500)
    assert float(logs[:, -1].exp().mean()) == pytest.approx(1.0, abs=0.02)
    assert learned.kl_ < balanced.kl_
    assert learned.kl_ == pytest.approx(float(learned.history_["loss"].sum()))


def test_a_cell_that_is_dear_to_reach_is_left_out():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator)
    y = torch.cat([x[:39] + 0.1, torch.tensor([[40.0, 0.0]])])
    data = gd.Snapshots([0.0, 1.0], [x, y])
    left = gd.SchrodingerBridge(sigma=0.5, relaxation=(50.0, 5.0)).fit(data, progress=False)
    assert float(left.bridge_.plans[0].marginals[1][-1]) < 1e-6
    met = gd.SchrodingerBridge(sigma=0.5).fit(data, progress=False)
    assert float(met.bridge_.plans[0].marginals[1][-1]) == pytest.approx(1 / 40, rel=1e-4)


def test_infinite_prices_and_no_growth_are_the_plain_bridge():
    data = sides(20)
    plain = gd.SchrodingerBridge(sigma=2.0, tolerance=1e-9).fit(data, progress=False)
    none = gd.SchrodingerBridge(sigma=2.0, growth_rate=lambda t, x: torch.zeros(len(x)), tolerance=1e-9)
    none.fit(data, progress=False)
    dear = gd.SchrodingerBridge(sigma=2.0, relaxation=1e8, tolerance=1e-9).fit(data, progress=False)
    for one, two, three in zip(*(m.bridge_.plans for m in (plain, none, dear)), strict=True):
        torch.testing.assert_close(one.to_dense(), two.to_dense(), atol=1e-8, rtol=0)
        torch.testing.assert_close(one.to_dense(), three.to_dense(), atol=1e-6, rtol=0)
    assert none.kl_ == pytest.approx(plain.kl_, abs=1e-6)
    assert torch.equal(none.sample_weighted(n=5)[1], torch.zeros(5, 3, dtype=torch.float64))


def test_points_of_ones_own_multiply_as_their_neighbours():
    data = sides()
    model = gd.SchrodingerBridge(sigma=0.5, growth_rate=right).fit(data, progress=False)
    points = torch.tensor([[-5.2], [4.8]], dtype=torch.float64)
    _, logs = model.sample_weighted(points, [0.0, 1.0])
    torch.testing.assert_close(logs[:, 1], torch.tensor([0.0, math.log(2)]).double(), atol=1e-8, rtol=0)
    _, logs = model.sample_weighted(points, [0.5, 1.0, 1.5])
    expected = math.log(2) * torch.tensor([[0, 0, 0], [0, 0.5, 1.0]]).double()
    torch.testing.assert_close(logs, expected, atol=1e-8, rtol=0)
    later, _ = model.sample_weighted(data.only([1.0]), [1.5, 2.0], n=7)
    assert later.values.shape == (7, 2, 1)
    assert model.score(sides(seed=5)) > -0.2
    report = gd.leave_one_out(data, {"bridge": gd.SchrodingerBridge(sigma=0.5, relaxation=(2.0, math.inf))})
    assert "bridge" in str(report)


def test_files_and_interruptions(tmp_path):
    data = sides(10)
    rates = [right(0, x).tolist() for x in data.samples]
    model = gd.SchrodingerBridge(sigma=0.5, growth_rate=rates, relaxation=(3.0, math.inf))
    model.fit(data, progress=False, checkpoint=tmp_path / "fit.safetensors")
    again = gd.SchrodingerBridge(sigma=0.5, growth_rate=rates, relaxation=(3.0, math.inf))
    again.fit(data, progress=False, checkpoint=tmp_path / "fit.safetensors")
    model.save(tmp_path / "model.safetensors")
    loaded = gd.load(tmp_path / "model.safetensors")
    for other in (again, loaded):
        assert torch.equal(other.sample_weighted(n=20)[1], model.sample_weighted(n=20)[1])
        assert other.kl_ == model.kl_
        assert other.history_["mass"].tolist() == model.history_["mass"].tolist()
    with pytest.raises(TypeError, match="no function as growth_rate"):
        gd.SchrodingerBridge(sigma=0.5, growth_rate=right).fit(data, progress=False).save(tmp_path / "no")


@pytest.mark.skipif(not CELLS.is_file(), reason="wot_serum_250cells.npz is not in $GENDYN_DATA")
def test_the_preset_has_the_stored_map_of_waddington_ot():
    with np.load(CELLS, allow_pickle=False) as z:
        import scipy.sparse

        genes = scipy.sparse.csr_matrix((z["data"], z["indices"], z["indptr"]), shape=z["shape"]).toarray()
        early, late = z["day"] == 10, z["day"] == 10.5
        joint = np.concatenate([genes[early], genes[late]])
        u, s, _ = np.linalg.svd(joint - joint.mean(0), full_matrices=False)
        cells, stored = torch.from_numpy(u[:, :50] * s[:50]), z["tmap_10_105"]
    data = gd.Snapshots([10.0, 10.5], [cells[: early.sum()], cells[early.sum() :]])
    model = gd.SchrodingerBridge.waddington(0.5, relaxation=(1.0, 10.0), growth_iterations=1).fit(data, progress=False)
    found = model.bridge_.plans[0].to_dense().numpy()
    assert np.corrcoef(found.ravel(), stored.ravel())[0, 1] > 0.99999
    assert abs(found - stored / stored.sum()).sum() < 0.002


def test_the_reference_of_the_preset_has_noise_of_each_interval():
    data = gd.Snapshots([0.0, 1.0, 3.0], [torch.zeros(1, 2), torch.full((1, 2), 3.0), torch.full((1, 2), 4.0)])
    model = gd.SchrodingerBridge(gd.references.LocalBrownian(0.5)).fit(data, progress=False)
    for t, variance in ((0.5, 0.5 * 18 / 2 * 0.25), (2.0, 0.5 * 2 / 4 * 0.5)):
        points = model.interpolate(t, 4000)
        assert float(points.var(0).mean()) == pytest.approx(variance, rel=0.07)
    walked = model.sample(times=[0.0, 1.0, 2.0, 3.0], n=2000, solver="euler_maruyama").values
    assert float(walked[:, 2].var(0).mean()) == pytest.approx(0.125, rel=0.1)
    assert model.forecast([4.0], 4000).values.var(0).mean() == pytest.approx(0.5 * 2 / 4, rel=0.07)


def test_errors():
    data = sides(5)

    def fit(**options):
        return gd.SchrodingerBridge(sigma=1.0, **options).fit(data, progress=False)

    with pytest.raises(ValueError, match=r"relaxation must be positive, or infinite .*; got \(0.0, 1.0\)"):
        fit(relaxation=(0.0, 1.0))
    with pytest.raises(ValueError, match="growth_iterations must be at least 1; got 0"):
        fit(relaxation=1.0, growth_iterations=0)
    with pytest.raises(TypeError, match=r"growth_rate must be a function .*; got float"):
        fit(growth_rate=0.5)
    with pytest.raises(ValueError, match=r"rates for each of 3 times .*; got 1"):
        fit(growth_rate=[torch.zeros(10)])
    with pytest.raises(ValueError, match=r"one number a row: 15 at time 1; got shape \(10,\)"):
        fit(growth_rate=[torch.zeros(10), torch.zeros(10)])
    with pytest.raises(ValueError, match="growth_rate must be finite; got nan for row 3 at time 0"):
        fit(growth_rate=[torch.zeros(10).index_fill(0, torch.tensor(3), float("nan")), torch.zeros(15)])
    with pytest.raises(ValueError, match="cells multiply only where all coordinates are observed"):
        gd.SchrodingerBridge(gd.references.Matern(3.0), relaxation=1.0).fit(data, progress=False)
    with pytest.raises(ValueError, match="cells of this model do not multiply: fit it with growth_rate"):
        fit().sample_weighted()
    grown = fit(growth_rate=right)
    with pytest.raises(ValueError, match="couplings do not share the weights"):
        _ = grown.bridge_.chain
    with pytest.raises(ValueError, match="growth is known up to the last observed time, 2"):
        grown.growth(data)
    with pytest.raises(ValueError, match="regularisation must be positive"):
        gd.SchrodingerBridge.waddington(0.0)


def test_the_couplings_of_an_interval_and_those_of_a_model_are_one():
    data = sides(8)
    log_density = torch.distributions.Normal(data.samples[0], 0.5).log_prob(data.samples[1].T)
    solved = static_bridge(log_density, relaxation=(2.0, 7.0))
    model = gd.SchrodingerBridge(sigma=0.5, relaxation=(2.0, 7.0)).fit(data, progress=False)
    torch.testing.assert_close(
        model.bridge_.plans[0].to_dense(), bridge_plan(log_density, solved.potentials).to_dense(), atol=1e-6, rtol=0
    )
    assert model.history_["mass"][0] == pytest.approx(solved.mass, rel=1e-6)
