"""Encoders of populations: invariance, degenerate clouds, and what they are worth in closed form."""

import pytest
import torch

from gendyn.nn import CloudStatistics, FourierCloud, GraphEncoder, KernelEncoder

CLOUD = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(0))
X = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1))
ENCODERS = {
    "gcn": GraphEncoder(3, 10, (16, 16)),
    "gcn, not normalised": GraphEncoder(3, 10, (16, 16), normalise=False),
    "deepsets": GraphEncoder(3, 0, (16, 16)),
    "stats": CloudStatistics(3, 8),
    "rff": FourierCloud(3, 1.0),
    "kernel": KernelEncoder(3, 1.0),
}
every = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())


@every
def test_the_order_of_cells_does_not_matter(encoder):
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    assert float((encoder(X, CLOUD[:, order]) - encoder(X, CLOUD)).detach().abs().max()) < 1e-5
    assert encoder(X, CLOUD).shape == (2, 7, encoder.out_features)


@every
def test_clouds_do_not_see_each_other(encoder):
    torch.testing.assert_close(encoder(X, CLOUD)[1:], encoder(X[1:], CLOUD[1:]))


@every
def test_cells_that_coincide_give_numbers(encoder):
    assert torch.isfinite(encoder(X, torch.ones(2, 30, 3))).all()


@pytest.mark.parametrize("name", ["deepsets", "stats", "rff", "kernel"])
def test_a_cloud_twice_over_is_the_same_cloud(name):
    encoder = ENCODERS[name]
    torch.testing.assert_close(encoder(X, CLOUD.repeat(1, 2, 1)), encoder(X, CLOUD), atol=1e-5, rtol=1e-5)


def test_a_graph_layer_is_the_average_over_the_neighbourhood():
    encoder = GraphEncoder(3, 4, (5,), normalise=False).double()
    cloud = CLOUD[:1].double()
    distances = torch.cdist(cloud[0], cloud[0])
    near = distances.topk(5, largest=False).indices  # a cell and its four neighbours
    by_hand = torch.stack([cloud[0][rows].mean(0) for rows in near])
    expected = (by_hand @ encoder.layers[0].weight.T + encoder.layers[0].bias).mean(0)
    torch.testing.assert_close(encoder.context(cloud)[0], expected)


def test_large_clouds_gather_and_small_ones_multiply_to_the_same(monkeypatch):
    encoder = GraphEncoder(2, 6, (8, 8))
    cloud = torch.randn(1, 1100, 2, generator=torch.Generator().manual_seed(3))
    gathered = encoder.context(cloud)
    from gendyn.nn import encoders

    def multiplied(h, nearest):
        weights = h.new_zeros(*nearest.shape[:2], nearest.shape[1]).scatter_(2, nearest, 1.0)
        return (weights @ h + h) / (nearest.shape[2] + 1)

    monkeypatch.setattr(encoders, "_average", multiplied)
    torch.testing.assert_close(encoder.context(cloud), gathered, atol=1e-5, rtol=1e-5)


def test_embeddings_lie_on_the_sphere():
    torch.testing.assert_close(ENCODERS["gcn"].context(CLOUD).norm(dim=1), torch.ones(2))


def test_the_kernel_knows_the_score_of_a_gaussian():
    """Smoothed by h, N(0, 1) has score -x / (1 + h^2): the mean shift over h is h times it."""
    cloud = torch.randn(1, 200_000, 1, generator=torch.Generator().manual_seed(4)).double()
    encoder = KernelEncoder(1, 1.0).double()
    x = torch.tensor([[[-1.0], [0.5]]], dtype=torch.float64)
    found = encoder(x, cloud)[0].reshape(2, 4, 2)
    h = encoder.bandwidths.double()
    expected = -x[0] * h / (1 + h**2)
    torch.testing.assert_close(found[..., 0], expected, atol=0.02, rtol=0)
    density = -0.5 * x[0] ** 2 / (1 + h**2) - 0.5 * torch.log(1 + h**2) + torch.log(h)
    torch.testing.assert_close(found[..., 1], density, atol=0.02, rtol=0)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_the_kernel_is_its_formula_far_away_too(dtype, close):
    """Weights of narrow bandwidths are powers of those of wide ones: far cells may underflow, the nearest never."""
    generator = torch.Generator().manual_seed(5)
    cloud = torch.randn(2, 40, 3, generator=generator, dtype=dtype)
    x = torch.cat([torch.randn(2, 6, 3, generator=generator, dtype=dtype), torch.full((2, 1, 3), 30.0, dtype=dtype)], 1)
    encoder = KernelEncoder(3, 1.0).to(dtype)
    expected = []
    for h in encoder.bandwidths.double():
        exponents = -torch.cdist(x.double(), cloud.double()).square() / (2 * h**2)
        mean = torch.softmax(exponents, -1) @ cloud.double()
        density = torch.logsumexp(exponents, -1, keepdim=True) - torch.log(torch.tensor(40.0, dtype=torch.float64))
        expected.append(torch.cat([(mean - x) / h, density], -1))
    found = encoder(x, cloud)
    torch.testing.assert_close(found.double(), torch.cat(expected, -1), atol=close, rtol=close)


def test_gradients_of_the_kernel():
    generator = torch.Generator().manual_seed(6)
    cloud = torch.randn(1, 7, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda at: KernelEncoder(2, 1.0).double()(at, cloud), (x,))


def test_memory_is_bounded_by_parts(monkeypatch):
    from gendyn.nn import encoders

    whole = ENCODERS["kernel"](X, CLOUD)
    monkeypatch.setattr(encoders, "_LARGEST", 1000)
    monkeypatch.setattr(encoders, "_CACHED", 100)
    torch.testing.assert_close(ENCODERS["kernel"](X, CLOUD), whole)
    nearest = encoders._nearest(CLOUD, 5)
    monkeypatch.undo()
    assert torch.equal(encoders._nearest(CLOUD, 5), nearest)


def test_statistics_are_those_of_the_cloud():
    encoder = CloudStatistics(3, 4).double()
    cloud = CLOUD.double()
    mean, deviation = cloud.mean(1), cloud.std(1, correction=0)
    covariance = torch.stack([torch.cov(c.T, correction=0) for c in cloud])
    rows = torch.cat([mean, deviation, covariance[:, *torch.triu_indices(3, 3)]], dim=1)
    torch.testing.assert_close(encoder.context(cloud), encoder.layer(rows))


def test_sentences():
    with pytest.raises(ValueError, match="needs more than 10 cells; got 10: lower neighbours"):
        ENCODERS["gcn"].context(CLOUD[:, :10])
    with pytest.raises(ValueError, match="neighbours must be at least 0"):
        GraphEncoder(2, -1)
