"""Many small recurrent networks trained as one, against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gendyn.evaluation.recurrent import (
    Pools,
    RecurrentBank,
    columns,
    gated_recurrent,
    long_short_term,
    share_right,
)


def gru_of(weight: Tensor, dim: int) -> nn.GRU:
    """Return torch's network with the weights of one of ours ``(4 h, d + h + 1)``."""
    h = len(weight) // 4
    net = nn.GRU(dim, h, dtype=weight.dtype)
    r, z, n, q = weight.detach().split(h)
    with torch.no_grad():
        net.weight_ih_l0.copy_(torch.cat([r, z, n])[:, :dim])
        net.weight_hh_l0.copy_(torch.cat([r, z, q])[:, dim:-1])
        net.bias_ih_l0.copy_(torch.cat([r, z, n])[:, -1])
        net.bias_hh_l0.copy_(torch.cat([torch.zeros(2 * h), q[:, -1]]))
    return net


def lstm_of(weights: list[Tensor], dim: int) -> nn.LSTM:
    h = len(weights[0]) // 4
    net = nn.LSTM(dim, h, num_layers=len(weights), dtype=weights[0].dtype)
    with torch.no_grad():
        for layer, weight in enumerate(weights):
            i, f, o, g = weight.detach().split(h)
            ours = torch.cat([i, f, g, o])
            getattr(net, f"weight_ih_l{layer}").copy_(ours[:, : -h - 1])
            getattr(net, f"weight_hh_l{layer}").copy_(ours[:, -h - 1 : -1])
            getattr(net, f"bias_ih_l{layer}").copy_(ours[:, -1])
            getattr(net, f"bias_hh_l{layer}").zero_()
    return net


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_states_are_those_of_torch() -> None:
    x, weight = draw(7, 3, 2, 5), draw(3, 16, 7)
    states = gated_recurrent(x, weight)
    for k in range(3):
        expected = gru_of(weight[k], 2)(x[:, k].transpose(1, 2))[0]
        torch.testing.assert_close(states[:, k].transpose(1, 2), expected)


def test_gradients_are_those_of_torch() -> None:
    x, weight = draw(7, 3, 2, 5), draw(3, 16, 7).requires_grad_()
    pull = draw(7, 3, 4, 5)
    (gated_recurrent(x, weight) * pull).sum().backward()
    assert weight.grad is not None
    for k in range(3):
        net = gru_of(weight[k], 2)
        (net(x[:, k].transpose(1, 2))[0] * pull[:, k].transpose(1, 2)).sum().backward()
        r, z, n, q = weight.grad[k].split(4)
        torch.testing.assert_close(torch.cat([r, z, n])[:, :2], net.weight_ih_l0.grad)
        torch.testing.assert_close(torch.cat([r, z, q])[:, 2:-1], net.weight_hh_l0.grad)
        torch.testing.assert_close(q[:, -1], net.bias_hh_l0.grad[8:])
        assert not n[:, 2:-1].any()  # what the formula does not read gets no gradient
        assert not q[:, :2].any()


@pytest.mark.parametrize("advance", [gated_recurrent, long_short_term])
def test_gradients_by_finite_differences(advance: object) -> None:
    x, weight = draw(4, 2, 3, 3).requires_grad_(), draw(2, 8, 6).requires_grad_()
    assert torch.autograd.gradcheck(advance, (x, weight))


def test_two_layers_of_long_short_term_memory() -> None:
    bank = RecurrentBank(2, 3, 4, 2, cell="lstm", layers=2).double()
    x = draw(6, 2, 3, 5)
    states = bank.states(x)
    bank.read(states[-1]).square().sum().backward()
    for k in range(2):
        net = lstm_of([weight[k] for weight in bank.weights], 3)
        out, (last, _) = net(x[:, k].transpose(1, 2))
        torch.testing.assert_close(states[:, k, 4:].transpose(1, 2), out)
        both = last.permute(1, 2, 0).transpose(1, 2).reshape(5, 8)
        torch.testing.assert_close(states[-1, k].T, both)
        (both @ bank.readout[k].detach().T + bank.offset[k, :, 0].detach()).square().sum().backward()
        i, f, o, g = bank.weights[0].grad[k].split(4)
        torch.testing.assert_close(torch.cat([i, f, g, o])[:, :3], net.weight_ih_l0.grad)


def test_training_together_is_training_alone() -> None:
    """Three networks trained as one end where three networks of torch end."""
    bank = RecurrentBank(3, 2, 3, 1, seed=5).double()
    singles = [
        (gru_of(bank.weights[0][k], 2), bank.readout[k].detach().clone(), bank.offset[k].detach().clone())
        for k in range(3)
    ]
    rows, sign = draw(40, 6, 2), torch.arange(40) % 2 * 2.0 - 1
    numbers = torch.randint(0, 40, (30, 3, 16), generator=torch.Generator().manual_seed(1))
    together = torch.optim.Adam(bank.parameters(), lr=0.01)
    for step in numbers:
        together.zero_grad()
        odds = bank.read(bank.states(columns(rows, step))[-1])[:, 0]
        nn.functional.softplus(-sign[step] * odds).mean(1).sum().backward()
        together.step()
    for k, (net, readout, offset) in enumerate(singles):
        # One bias for each of r and z, as the bank has.
        net.bias_hh_l0.register_hook(lambda g: torch.cat([torch.zeros(6, dtype=g.dtype), g[6:]]))
        alone = torch.optim.Adam([*net.parameters(), readout.requires_grad_(), offset.requires_grad_()], lr=0.01)
        for step in numbers:
            alone.zero_grad()
            odds = readout @ net(rows[step[k]].transpose(0, 1))[1][0].T + offset
            nn.functional.softplus(-sign[step[k]] * odds[0]).mean().backward()
            alone.step()
        torch.testing.assert_close(bank.readout[k], readout)
        torch.testing.assert_close(bank.weights[0][k, :9, :2], net.weight_ih_l0)


def test_a_bank_starts_as_torch_does_and_by_its_seed() -> None:
    one, two, other = (RecurrentBank(50, 3, 4, 1, seed=seed) for seed in (0, 0, 1))
    values = one.weights[0].detach()
    assert values.abs().max() <= 0.5
    assert abs(float(values.std()) - 0.5 / 3**0.5) < 0.01
    assert torch.equal(values, two.weights[0])
    assert not torch.equal(values, other.weights[0])


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=2), min_size=1, max_size=4), st.integers(0, 2**31))
def test_pools_give_their_own_paths_all_of_them(sizes: list[list[int]], seed: int) -> None:
    pools = [
        [torch.arange(100 * k + 10 * p, 100 * k + 10 * p + n) for p, n in enumerate(pair)]
        for k, pair in enumerate(sizes)
    ]
    drawn = Pools(pools).draw(300, torch.Generator().manual_seed(seed))
    assert drawn.shape == (len(sizes), 2, 300)
    for k, pair in enumerate(pools):
        for p, pool in enumerate(pair):
            assert set(drawn[k, p].tolist()) == set(pool.tolist())


def test_share_right_counts_each_networks_own_paths() -> None:
    asked = [np.arange(5000), np.array([3, 3, 8])]
    shares = share_right(lambda numbers: numbers % 2 == 0, asked)
    np.testing.assert_allclose(shares, [0.5, 1 / 3])
