"""Networks: shapes, seeds, and the fields they stand for."""

import pytest
import torch

from gendyn import nn

X = torch.linspace(-1, 1, 12).reshape(6, 2)


def test_equal_seeds_give_equal_networks_and_touch_nothing_global():
    state = torch.random.get_rng_state()
    one, same, other = (nn.VelocityNetwork(2, hidden=(8, 8), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    t = torch.tensor(0.3)
    assert torch.equal(one(t, X), same(t, X))
    assert not torch.equal(one(t, X), other(t, X))


def test_one_time_for_all_or_one_each():
    network = nn.VelocityNetwork(2, hidden=(8,), seed=0)
    together = network(torch.tensor(0.3), X)
    apart = network(torch.full((6, 1), 0.3), X)
    torch.testing.assert_close(together, apart)
    assert together.shape == X.shape
    assert not torch.allclose(network(torch.tensor(0.9), X), together)


@pytest.mark.parametrize("activation", sorted(nn.ACTIVATIONS))
def test_every_activation_has_finite_gradients(activation):
    network = nn.MLP(2, 3, hidden=(8, 8), activation=activation, seed=0)
    network(X).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_an_energy_network_is_a_gradient():
    network = nn.EnergyNetwork(2, hidden=(16, 16), seed=0).double()
    x = X.double().requires_grad_(True)
    t = torch.tensor(0.5, dtype=torch.float64)

    def field(z):
        return network(t, z)

    jacobian = torch.autograd.functional.jacobian(lambda z: field(z).sum(0), x)
    # d v_i / d x_j = d v_j / d x_i at every point: the field has no curl.
    torch.testing.assert_close(jacobian[0, :, 1], jacobian[1, :, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.MLP(2, 3, hidden=(0,)), "width"),
        (lambda: nn.MLP(2, 3, activation="magic"), "activation"),
        (lambda: nn.VelocityNetwork(0), "dim"),
    ],
)
def test_sentences(call, message):
    with pytest.raises(ValueError, match=message):
        call()
