"""Paths whose mass changes, and the velocity and growth that are learned from them."""

import math

import numpy as np
import pytest
import torch

import gendyn as gd
from gendyn.coupling import sinkhorn_plan
from gendyn.data import Snapshots
from gendyn.evaluation.starts import predict_starts
from gendyn.interpolants import FlowMatching
from gendyn.interpolants.growing_paths import GrowingPaths, _potentials, couple_growing


def cloud(n, seed, shift=0.0, dim=2):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def clusters(left, right, seed=0):
    """Return cells about -3 and 3, narrow."""
    centres = torch.cat([torch.full((left, 1), -3.0), torch.full((right, 1), 3.0)])
    return centres + 0.2 * torch.randn(len(centres), 1, generator=torch.Generator().manual_seed(seed))


GROWN = Snapshots([0.0, 2.0], [clusters(300, 300), clusters(200, 400, 1)])


def test_weighted_tuples_have_the_populations_as_marginals():
    weights = [torch.rand(n, generator=torch.Generator().manual_seed(n)).double() for n in (40, 50, 60)]
    data = Snapshots([0.0, 1.0, 3.0], [cloud(40, 0), cloud(50, 1, 0.5), cloud(60, 2, 1.0)], weights=weights)
    table, logs = couple_growing(data, 2.0, n_paths=200_000, seed=0)
    for gap, k in ((0, 0), (0, 1), (1, 1), (1, 2)):
        mass, cells = (logs[gap] * (k - gap)).exp(), table[gap, :, k]
        found = torch.zeros(data.sizes[k], dtype=torch.float64).index_add_(0, cells, mass) / mass.sum()
        # Draws of one cell: their masses' standard error, five times.
        squares = torch.zeros(data.sizes[k], dtype=torch.float64).index_add_(0, cells, mass.square())
        assert ((found - data.mass(data.times[k])).abs() <= 5 * squares.sqrt() / mass.sum() + 1e-12).all()


def test_a_dear_relaxation_is_balanced_transport():
    data = Snapshots([0.0, 1.0], [cloud(60, 0), cloud(60, 1, 0.5)])
    table, logs = couple_growing(data, 1e7, n_paths=1000)
    assert logs.abs().max() < 1e-4
    plan = gd.interpolants.coupled_paths.couple(data, "ot", n_paths=1000)
    partner = dict(plan.tolist())
    assert all(partner[i] == j for i, j in table[0].tolist())


def test_many_times_leave_many_tuples_with_mass():
    data = Snapshots(range(8), [cloud(100, k, 0.3 * k) for k in range(8)])
    table, growth = couple_growing(data, 1.0, n_paths=5000)
    effective = 1 / growth.softmax(1).square().sum(1)
    assert table.shape == (7, 5000, 8)
    assert (effective > 0.5 * 5000).all()


def test_tuples_of_neighbouring_gaps_have_one_law_where_they_meet():
    data = Snapshots([0.0, 1.0, 2.0], [cloud(6, 0), cloud(5, 1, 0.5), cloud(4, 2, 1.0)])
    table, growth = couple_growing(data, 1.0, n_paths=100_000)
    laws = []
    for tuples, mass in ((table[0], growth[0].exp()), (table[1], torch.ones(100_000).double())):
        place = (tuples[:, 0] * 5 + tuples[:, 1]) * 4 + tuples[:, 2]
        laws.append(torch.zeros(120, dtype=torch.float64).index_add_(0, place, mass / mass.sum()))
    assert float((laws[0] - laws[1]).abs().sum()) < 0.03


def test_potentials_at_all_cells_are_those_of_the_solution():
    x, y = cloud(80, 0), cloud(90, 1, 0.7)
    a, b = torch.full((80,), 1 / 80).double(), torch.full((90,), 1 / 90).double()
    f, g = _potentials(x, y, a, b, 2.0, 0.3, "sqeuclidean", 0)
    solved = sinkhorn_plan(x, y, 0.3, relaxation=2.0, tolerance=1e-10)
    torch.testing.assert_close(f, solved.potentials[0], atol=2e-3, rtol=0)
    torch.testing.assert_close(g, solved.potentials[1], atol=2e-3, rtol=0)


def test_mass_between_the_knots_is_geometric():
    data = Snapshots([0.0, 1.0, 4.0], [torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1)])
    paths = GrowingPaths(data, torch.zeros(2, 2, 3, dtype=torch.int64), torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    s = torch.tensor([0.625, 0.625]).double()
    rows = paths.at(torch.tensor([0, 3]), s)
    assert rows.tolist() == [2, 3]  # of the second gap
    mass, rate = paths.mass(rows, s)
    assert mass[0] / mass[1] == pytest.approx(math.exp(1.5), rel=1e-6)
    assert mass.mean() == pytest.approx(1.0)
    assert rate.tolist() == pytest.approx([3.0 / 0.75, 0.0])


def test_masses_beyond_single_precision_are_weights_all_the_same():
    data = Snapshots([0.0, 1.0], [torch.zeros(1, 1), torch.ones(1, 1)])
    paths = GrowingPaths(data, torch.zeros(1, 3, 2, dtype=torch.int64), torch.tensor([[200.0, 201.0, 0.0]]))
    mass, _ = paths.mass(torch.arange(3), torch.ones(3).double())
    assert mass.tolist() == pytest.approx([3 / (1 + math.e), 3 * math.e / (1 + math.e), 0.0])


def test_cells_of_little_weight_grow_as_their_neighbours_do():
    x = cloud(100, 0)
    weights = [torch.ones(100).double(), torch.cat([torch.ones(100), torch.full((100,), 1e-5)]).double()]
    data = Snapshots([0.0, 1.0], [x, torch.cat([x, x])], weights=weights)
    table, logs = couple_growing(data, 1.0, n_paths=200_000)
    assert logs.abs().max() < 1.0  # everybody stays, so that there is next to no growth
    assert (table[0, :, 1] >= 100).sum() <= 20  # two are expected


def test_sums_of_weights_are_masses():
    few = torch.tensor([[0.0], [0.1]])
    data = Snapshots([0.0, 2.0, 3.0], [few] * 3)
    table = torch.zeros(2, 2, 3, dtype=torch.int64)
    paths = GrowingPaths(data, table, torch.zeros(2, 2), torch.tensor([2.0, 6.0, 3.0]))
    mass, rate = paths.mass(torch.tensor([0, 2]), torch.tensor([0.1, 0.9]).double())
    assert mass.tolist() == [1.0, 1.0]
    assert rate.tolist() == pytest.approx([math.log(3) * 3 / 2, -math.log(2) * 3])


@pytest.fixture(scope="module")
def grown():
    return FlowMatching("ot", relaxation=1.0, steps=500, hidden=(32, 32)).fit(GROWN, seed=0, progress=False)


def test_cells_grow_rather_than_cross(grown):
    start = GROWN.samples[0]
    paths, logs = grown.sample_weighted(start, [0.0, 1.0, 2.0])
    assert (paths.values[:, 0] * paths.values[:, -1] > 0).all()
    right = (start[:, 0] > 0).double()
    shares = [float((right * logs[:, k].double().softmax(0)).sum()) for k in range(3)]
    halfway = math.sqrt(2) / (1 + math.sqrt(2))  # the geometric mean of 1/2 : 1/2 and 1/3 : 2/3
    assert shares == pytest.approx([0.5, halfway, 2 / 3], abs=0.02)
    left, grew = grown.growth(Snapshots([1.0], [start]))[0].split(300)
    assert float(grew.mean() - left.mean()) == pytest.approx(math.log(2) / 2, abs=0.05)
    assert grown.grows


def test_a_grown_model_is_saved_whole(grown, tmp_path):
    grown.save(tmp_path / "m.safetensors")
    again = gd.load(tmp_path / "m.safetensors")
    for one, two in zip(grown.sample_weighted(n=20, seed=1), again.sample_weighted(n=20, seed=1), strict=True):
        np.testing.assert_array_equal(
            *(getattr(z, "values", z) if not isinstance(z, torch.Tensor) else z for z in (one, two))
        )
    assert grown.score(GROWN) > FlowMatching("ot", steps=500, hidden=(32, 32)).fit(GROWN, progress=False).score(GROWN)


def test_predictions_of_a_hole_are_weighted():
    data = Snapshots([0.0, 1.0, 2.0], [*GROWN.samples, clusters(100, 500, 2)])
    method = FlowMatching("spline-ot", relaxation=1.0, steps=30, hidden=(8,))
    found = predict_starts("growing", method, data.without([1.0]), 1.0, 0)
    assert set(found) == {"restart", "rollout"}
    assert float(found["restart"].weights.sum()) == pytest.approx(1.0, abs=1e-5)
    table = gd.leave_one_out(data, {"growing": method}).table
    assert "growing" in set(table["row"])


def test_a_population_that_doubles_has_cells_that_double():
    weights = [torch.ones(600), torch.full((600,), 2.0)]
    data = Snapshots([0.0, 2.0], [GROWN.samples[0], GROWN.samples[0]], weights=weights)
    model = FlowMatching("ot", relaxation=1.0, steps=300, hidden=(16,), validation_fraction=0.1).fit(
        data, progress=False
    )
    _, logs = model.sample_weighted(data.samples[0], [0.0, 2.0])
    assert float(logs[:, -1].exp().mean()) == pytest.approx(2.0, abs=0.1)


def test_weights_run_backward_too(grown):
    there, gained = grown.sample_weighted(GROWN.samples[0], [0.0, 1.0, 2.0])
    back, lost = grown.sample_weighted(there.values[:, -1], [2.0, 1.0, 0.0])
    torch.testing.assert_close(back.values[:, -1], GROWN.samples[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(lost[:, -1], -gained[:, -1], atol=1e-3, rtol=0)


class Tilting(torch.nn.Module):
    """The flow dX/dt = l X of cells that grow at the rate b X: what is Gaussian stays so, with a mass."""

    dim, noise_type, noise_dim, calculus, time_step = 1, "none", 0, "ito", 0.02
    shift, scale = torch.zeros(1).double(), torch.ones(1).double()

    def __init__(self, stretch, tilt):
        super().__init__()
        self.stretch, self.tilt = stretch, tilt

    def drift(self, t, x):
        return self.stretch * x

    def diffusion(self, t, x):
        return torch.zeros_like(x)

    def growth(self, t, x):
        return self.tilt * x[:, 0]


@pytest.mark.parametrize("model", [FlowMatching("ot", relaxation=1.0), gd.ActionMatching(unbalanced=True)])
def test_density_of_a_population_that_grows(model):
    """From N(0, 1) cells gain exp(c x_0), which makes of x_0 an N(c, 1) of mass exp(c^2 / 2)."""
    model = model.clone().set_params(steps=1, hidden=(2,)).fit(GROWN, progress=False)
    stretch, tilt, span = 0.4, 0.3, 2.0
    model.process_ = Tilting(stretch, tilt)
    model.initial_ = torch.special.ndtri((torch.arange(5000).double() + 0.5) / 5000)[:, None]
    c, factor = tilt * math.expm1(stretch * span) / stretch, math.exp(stretch * span)
    x = torch.linspace(-3, 5, 9).double()
    law = torch.distributions.Normal(c * factor, factor)
    base = torch.distributions.Normal(torch.zeros(1).double(), 1.0)
    mass = model.log_prob_weighted(x[:, None], base=base, normalised=False)
    torch.testing.assert_close(mass, law.log_prob(x) + c**2 / 2, atol=1e-7, rtol=0)
    torch.testing.assert_close(model.log_prob_weighted(x[:, None], base=base), law.log_prob(x), atol=2e-3, rtol=0)
    probed = model.log_prob_weighted(
        x[:, None], base=base, normalised=False, divergence="hutchinson", probes=4000, step=0.5
    )
    assert float((probed - mass).abs().max()) < 0.05


def test_a_learned_density_has_the_learned_masses(grown):
    """The clusters are as narrow at the end as at the start, with a third and two thirds of all."""
    base = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(2)), torch.distributions.Normal(torch.tensor([-3.0, 3.0]), 0.2)
    )
    x = torch.linspace(-5, 5, 2001)[:, None]
    density = grown.log_prob_weighted(x, base=lambda z: base.log_prob(z[:, 0])).double().exp()
    assert float(density.sum() * 0.005) == pytest.approx(1.0, abs=0.02)
    assert float(density[1000:].sum() * 0.005) == pytest.approx(2 / 3, abs=0.02)


def test_a_growing_model_has_no_density_of_its_flow_alone(grown):
    base = torch.distributions.Normal(torch.zeros(1), 1.0)
    with pytest.raises(ValueError, match="this model has noise: fit it with sigma=0"):
        noisy = gd.ActionMatching(0.5, unbalanced=True, steps=1, hidden=(2,)).fit(GROWN, progress=False)
        noisy.log_prob_weighted(torch.zeros(2, 1), base=base)
    with pytest.raises(ValueError, match="its flow alone does not give its densities; use log_prob_weighted"):
        grown.log_prob(torch.zeros(2, 1), base=base)
    with pytest.raises(ValueError, match="fit it with relaxation=None"):
        grown.sample_with_log_prob(n=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relaxation": 0.0}, "relaxation must be a positive price, or None; got 0"),
        ({"relaxation": math.inf}, "relaxation must be a positive price"),
        ({"relaxation": 1.0, "coupling": "sinkhorn"}, "relaxation needs coupling 'ot' or 'spline-ot'; got 'sinkhorn'"),
        ({"relaxation": 1.0, "block": 64}, "leave block out"),
        ({"relaxation": 1.0, "reflow": 1}, "leave reflow out"),
    ],
)
def test_sentences(options, message):
    with pytest.raises(ValueError, match=message):
        FlowMatching(**options).fit(GROWN, progress=False)


def test_cells_at_the_wrong_place_or_time_are_refused(grown):
    with pytest.raises(ValueError, match=r"x0 must have shape \(n, 1\); got \(5, 2\)"):
        grown.sample_weighted(torch.zeros(5, 2), [0.0, 1.0])
    with pytest.raises(ValueError, match="outside the trained range.*extrapolate=True"):
        grown.sample_weighted(n=2, times=[3.0])
    assert grown.sample_weighted(n=2, times=[2.5], extrapolate=True)[1].shape == (2, 1)
    with pytest.raises(ValueError, match=r"outside the trained range \[0, 2\]$"):
        grown.growth(Snapshots([3.0], [torch.zeros(2, 1)]))
    with pytest.raises(ValueError, match="fitted on 1 features; the data have 2"):
        grown.growth(Snapshots([1.0], [torch.zeros(2, 2)]))


def test_a_model_that_does_not_grow_says_how_it_would():
    model = FlowMatching("ot", steps=2, hidden=(4,)).fit(GROWN, progress=False)
    with pytest.raises(ValueError, match="fit it with relaxation="):
        model.sample_weighted(n=3)
