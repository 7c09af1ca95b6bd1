"""The bridge of fractional Brownian motion: how near variational posteriors come to the evidence, by steps.

    python benchmarks/fractional_bridge.py

Kind II by five processes (rates 1/20 to 20, weights of horizon 6), from 0, seen at T = 2 at 0 with deviation 0.1.
The loss is E (y - X_T)^2 / 2 s^2 + KL, at best ln(1 + V / s^2) / 2. Peers are floors: the ideal for guided steps; for
controls that are held, the regulator of the same steps. The prior is linear, where a posterior begins as the best of
its kind and needs no training: those rows are exact. Others have a network that is trained for 300 iterations of Adam,
on 32 paths, and are means over 4000. The recipe is the published one, equal Euler steps and a network from zero, of
width 128.
"""

from __future__ import annotations

import math
import time

import torch
from table import begin, parser, row, show, store
from torch import Tensor

from gendyn.nn import MLP
from gendyn.randomness import torch_generator
from gendyn.sampling.fractional import HurstFamily, published_rates, variance_constant
from gendyn.sde import FractionalModel, FractionalPrior, read_series

T, NOISE = 2.0, 0.1
RATES = published_rates(5, 20.0)
HURST = (0.1, 0.3, 0.7)


def main() -> None:
    options = parser(__doc__)
    given = options.parse_args()
    begin(given)
    iterations = 20 if given.quick else 300
    rows = []
    for hurst in HURST:
        for posterior, name, times, steps in (
            ("guided", "guided, 3 steps", equal(3), 0),
            ("guided", "guided, 50 steps", equal(50), 0),
            ("guided", "guided, 200 steps", equal(200), 0),
            ("guided", "guided, 20 steps, network", equal(20), iterations),
            ("control", "control, 200 equal steps", equal(200), 0),
            ("control", "control, 200 steps that cluster", clustered(200), 0),
            ("control", "control, 20 steps that cluster, network", clustered(20), iterations),
        ):
            start = time.perf_counter()
            loss, floor = learned(hurst, posterior, times, steps)
            spent = time.perf_counter() - start
            peer = ideal(hurst) if posterior == "guided" else floor
            rows.append(row(f"H = {hurst}, {name}", "loss", loss, peer=peer, seconds=spent))
        start = time.perf_counter()
        loss = recipe(hurst, 200, iterations)
        spent = time.perf_counter() - start
        rows.append(
            row(f"H = {hurst}, recipe, 200 Euler steps", "loss", loss, peer=euler_floor(hurst, 200), seconds=spent)
        )
    show("Fractional bridges; peers are floors", rows)
    store(given.json, rows)


def equal(n: int) -> Tensor:
    """Return equal steps."""
    return torch.linspace(0, T, n + 1, dtype=torch.float64)


def clustered(n: int) -> Tensor:
    """Return steps that cluster before T."""
    return T * (1 - (1 - equal(n) / T) ** 3)


def family() -> HurstFamily:
    """Return the approximation of the literature."""
    return HurstFamily(RATES, 6.0, kind="II", weighting="pathwise")


def weights(hurst: float) -> Tensor:
    """Return raw weights."""
    return family().weights(torch.tensor([hurst]).double())[0] * math.sqrt(variance_constant(hurst, "II"))


def ideal(hurst: float) -> float:
    """Return what no posterior falls below."""
    sums, omega = RATES[:, None] + RATES, weights(hurst)
    return 0.5 * math.log1p(float(omega @ (-torch.expm1(-sums * T) / sums) @ omega) / NOISE**2)


def learned(hurst: float, posterior: str, times: Tensor, iterations: int) -> tuple[float, float]:
    """Return the loss of a posterior after training its network, and before."""
    prior = FractionalPrior(1, family(), "network", hurst=[hurst])
    model = FractionalModel(prior, torch.tensor([NOISE]), posterior, seed=0).double()  # type: ignore[arg-type]
    with torch.no_grad():
        prior.log_deviation.fill_(0.5 * math.log(variance_constant(hurst, "II")))
        prior.start_log_deviation.fill_(-20.0)
    prior.requires_grad_(False)
    series = read_series(torch.tensor([[[math.nan], [0.0]]], dtype=torch.float64), times=[0.0, T])
    places = torch.tensor([[0, len(times) - 1]])
    constant = math.log(NOISE) + 0.5 * math.log(2 * math.pi)

    def loss(seed: int, n: int) -> Tensor:
        return -model.bound(series, times, places, seed=seed, n_samples=n).value()[0] - constant

    with torch.no_grad():
        before = float(loss(0, 1))  # the network is zero: the expectation is exact
    if not iterations:
        return before, before
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for k in range(iterations):
        # The schedule of gendyn.training: the last steps are small.
        optimizer.param_groups[0]["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * k / iterations))
        optimizer.zero_grad()
        loss(k, 32).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return float(loss(-1, 4000)), before


def recipe(hurst: float, n: int, iterations: int) -> float:
    """Return the loss of the published recipe."""
    omega, h = weights(hurst).float(), T / n
    net = MLP(3 + len(RATES), 1, (128, 128), "tanh", seed=0, final_scale=0.0)
    rates = RATES.float()

    def loss(seed: int, paths: int) -> Tensor:
        generator = torch_generator(seed, "recipe")
        x, y, spent = torch.zeros(paths, 1), torch.zeros(paths, len(rates)), torch.zeros(paths, 1)
        for k in range(n):
            t = torch.full_like(x, k * h)
            u = net(torch.cat([t.sin(), t.cos(), x, y], 1))
            move = -rates * y * h + u * h + h**0.5 * torch.randn(x.shape, generator=generator)
            x, y, spent = x + (move @ omega)[:, None], y + move, spent + 0.5 * h * u.square()
        return (spent + 0.5 * (x / NOISE).square()).mean()

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for k in range(iterations):
        optimizer.zero_grad()
        loss(k, 32).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return float(loss(-1, 4000))


def euler_floor(hurst: float, n: int) -> float:
    """Return the loss of the best control that is held over Euler steps, by the linear-quadratic regulator."""
    omega, h, size = weights(hurst), T / n, 1 + len(RATES)
    drive = torch.cat([omega.sum()[None], torch.ones(len(RATES)).double()])
    force = torch.zeros(size, size, dtype=torch.float64)
    force[0, 1:], force[1:, 1:] = -omega * RATES, -torch.diag(RATES)
    matrix = torch.eye(size, dtype=torch.float64) + h * force
    value, total = torch.zeros(size, size, dtype=torch.float64), 0.0
    value[0, 0] = NOISE**-2
    for _ in range(n):
        pulled = value @ drive
        total += 0.5 * h * float(drive @ pulled)
        value = matrix.mT @ (value - h * torch.outer(pulled, pulled) / (1 + h * drive @ pulled)) @ matrix
    return total


if __name__ == "__main__":
    main()
