"""Equations driven by fractional noise, in the one sampler."""

import math

import pytest
import torch

from gendyn.sampling import SDE, FractionalNoise, StepGrid, sample
from gendyn.sampling.fractional import fractional_covariance
from gendyn.systems import FractionalOrnsteinUhlenbeck

FREE = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(2).to(x), dim=2, noise_type="additive")


@pytest.mark.parametrize("options", [{"kind": "II"}, {"past": "modes"}, {"past": "stationary"}])
def test_increments_add_up_to_the_approximation(options):
    # 45 steps of two lengths: a whole block of 32, and a part of one that holds a change of step.
    n, times = 4000, torch.tensor([0.0, 0.4, 1.0, 1.25], dtype=torch.float64)
    source = FractionalNoise([0.2, 0.8], weighting="pathwise", **options)
    paths = sample(FREE, torch.zeros(n, 2, dtype=torch.float64), times, step=0.03, noise=source, seed=1)
    noise = source.approximation(StepGrid(times, step=0.03))
    for feature, hurst in enumerate((0.2, 0.8)):
        exact = noise.covariance(times[1:, None], times[1:], feature)
        x = paths.values[:, 1:, feature]
        error = (exact.square() + exact.diagonal()[:, None] * exact.diagonal()).div(n).sqrt()
        assert ((x.T @ x / n - exact).abs() <= 4.5 * error).all()
        if options != {"past": "stationary"}:
            law = fractional_covariance(times[1:, None], times[1:], hurst, source.kind)
            torch.testing.assert_close(exact, law, atol=0.06, rtol=0)


def kernel_covariance(noise, rho, t, first, second):
    """Covariance at t of two columns of an approximation whose drivers are correlated, from its kernels."""
    rates = noise.decay_rates
    sums = rates[:, None] + rates
    one, other = noise.weights[first], noise.weights[second]
    if noise.stationary:
        forward = torch.exp(-rates * t)
        parts = (2 - forward[:, None] - forward) / sums  # of Y(t) - Y(0), where Y is stationary
    else:
        parts = -torch.expm1(-sums * t) / sums
    return rho * (one @ parts @ other).item()


@pytest.mark.parametrize("hurst", [0.3, [0.2, 0.8]])
@pytest.mark.parametrize("options", [{"kind": "II"}, {"past": "stationary"}, {"past": "modes"}])
def test_correlated_drivers(hurst, options):
    # 45 steps of two lengths: two blocks, the second of which holds a change of step.
    if options == {"past": "modes"} and isinstance(hurst, list):
        return
    n, rho, times = 6000, -0.7, torch.tensor([0.0, 0.4, 1.0, 1.25], dtype=torch.float64)
    source = FractionalNoise(hurst, correlation=[[1.0, rho], [rho, 1.0]], **options)
    start = torch.zeros(n, 2, dtype=torch.float64)
    x = sample(FREE, start, times, step=0.03, noise=source, seed=1).values
    noise = source.approximation(StepGrid(times, step=0.03))
    for k, t in enumerate(times[1:].tolist(), 1):
        own = [noise.covariance(times[k], times[k], min(j, noise.dim - 1)).item() for j in (0, 1)]
        if options == {"past": "modes"}:
            across = rho * own[0]
        else:
            across = kernel_covariance(noise, rho, t, 0, noise.dim - 1)
        exact = torch.tensor([[own[0], across], [across, own[1]]], dtype=torch.float64)
        found = x[:, k].T @ x[:, k] / n
        error = (exact.square() + exact.diagonal()[:, None] * exact.diagonal()).div(n).sqrt()
        assert ((found - exact).abs() <= 4.5 * error).all()
    few = sample(FREE, start[:7], times, step=0.03, noise=source, seed=1).values
    torch.testing.assert_close(few, x[:7])


def test_a_correlation_of_nothing_is_independence():
    options = {"kind": "II", "count": 5}
    plain, mixed = (
        FractionalNoise([0.2, 0.8], **options, **more) for more in ({}, {"correlation": torch.eye(2).double()})
    )
    x0, times = torch.zeros(4000, 2, dtype=torch.float64), [0.0, 0.5, 1.0]
    one, other = (sample(FREE, x0, times, step=0.02, noise=noise, seed=3).values[:, 1:] for noise in (plain, mixed))
    for feature in (0, 1):
        a, b = (torch.cov(x[..., feature].T) for x in (one, other))
        torch.testing.assert_close(a, b, rtol=0.12, atol=0.01)


def test_rows_do_not_see_their_batch_and_chunks_do_not_show():
    whole = sample(FREE, torch.zeros(600, 2), [0.0, 1.0], step=0.02, noise=FractionalNoise(0.3), seed=5)
    parts = sample(FREE, torch.zeros(600, 2), [0.0, 1.0], step=0.02, noise=FractionalNoise(0.3), seed=5, chunk=256)
    torch.testing.assert_close(whole.values, parts.values, atol=1e-6, rtol=0)
    other = sample(FREE, torch.zeros(600, 2), [0.0, 1.0], step=0.02, noise=FractionalNoise(0.3), seed=6)
    assert (whole.values - other.values).abs().max() > 0.1


@pytest.mark.parametrize("hurst", [0.1, 0.9])
def test_single_precision_sees_the_same_paths(hurst):
    # Eight processes: all coefficients are double, and only what leaves them is cast.
    relaxing = SDE(lambda t, x: -x, lambda t, x: torch.eye(1).to(x), dim=1, noise_type="additive")
    options = {"step": 0.001, "noise": FractionalNoise(hurst, count=8), "seed": 4}
    found = [
        sample(relaxing, torch.zeros(200, 1, dtype=kind), [0.0, 1.0], **options).values[:, -1].double()
        for kind in (torch.float32, torch.float64)
    ]
    assert torch.isfinite(found[0]).all()
    assert (found[0] - found[1]).abs().max() < 0.01 * found[1].std()


@pytest.mark.parametrize("hurst", [0.3, 0.7])
def test_relaxation_has_the_variance_of_the_fractional_process(hurst):
    relaxing = SDE(lambda t, x: -x, lambda t, x: torch.eye(1).to(x), dim=1, noise_type="additive")
    x0 = torch.zeros(6000, 1, dtype=torch.float64)
    paths = sample(relaxing, x0, [0.0, 2.0], step=0.005, noise=FractionalNoise(hurst), seed=2)
    exact = FractionalOrnsteinUhlenbeck(hurst=hurst, rate=1.0, start=0.0).covariance([2.0]).item()
    assert paths.values[:, 1].var().item() == pytest.approx(exact, rel=4.5 * math.sqrt(2 / 6000) + 0.005)


@pytest.mark.parametrize("solver", ["auto", "euler_heun"])
def test_stratonovich_equations_obey_the_chain_rule(solver):
    # dX = X dB has the solution exp(B): compare with the additive equation along the same noise.
    growth = SDE(lambda t, x: 0 * x, lambda t, x: x, dim=1, calculus="stratonovich")
    free = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(1).to(x), dim=1, noise_type="additive")
    options = {"step": 0.002, "noise": FractionalNoise(0.7), "seed": 3}
    x0 = torch.ones(300, 1, dtype=torch.float64)
    grown = sample(growth, x0, [0.0, 1.0], solver=solver, **options).values[:, 1]
    noise = sample(free, 0 * x0, [0.0, 1.0], **options).values[:, 1]
    torch.testing.assert_close(grown.log(), noise, atol=2e-3, rtol=0)


def test_gradients_go_back_through_checkpoints():
    rate = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    relaxing = SDE(lambda t, x: -rate * x, lambda t, x: torch.eye(1).to(x), dim=1, noise_type="additive")
    x0 = torch.ones(20, 1, dtype=torch.float64)
    found = []
    for gradient in ("backprop", "checkpoint"):
        x = sample(relaxing, x0, [0.0, 1.0, 2.0], step=0.02, noise=FractionalNoise(0.3), gradient=gradient).values
        found.append(torch.autograd.grad(x[:, -1].sum(), rate)[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: FractionalNoise(0.3, correlation=[1.0]), "must be a square matrix"),
        (lambda: FractionalNoise(0.3, correlation=[[1.0, 0.5], [0.4, 1.0]]), "symmetric with ones on its diagonal"),
        (lambda: FractionalNoise(0.3, correlation=[[1.0, 2.0], [2.0, 1.0]]), "the least of this one is -1"),
        (lambda: FractionalNoise([0.3, 0.4], correlation=torch.eye(3)), "2 Hurst indices .* correlation of 3 columns"),
        (lambda: FractionalNoise([0.3, 0.4], correlation=torch.eye(2)), "need kind='II' or past='stationary'"),
        (
            lambda: sample(
                FREE, torch.zeros(1, 2), [0.0, 1.0], step=0.1, noise=FractionalNoise(0.3, correlation=torch.eye(3))
            ),
            "a correlation of 3 columns was given for 2",
        ),
        (lambda: FractionalNoise(1.5), "Hurst index must lie between 0 and 1"),
        (
            lambda: sample(FREE, torch.zeros(1, 2), [0.0, 1.0], step=0.1, noise=FractionalNoise([0.1, 0.2, 0.3])),
            "3 Hurst indices were given for 2 columns",
        ),
        (
            lambda: sample(FREE, torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), step=0.1, noise=FractionalNoise(0.3)),
            "times that all paths share",
        ),
        (
            lambda: sample(FREE, torch.zeros(1, 2), [0.0, 1.0], step=0.1, noise=FractionalNoise(0.3), solver="shark"),
            "use 'euler_maruyama' or 'heun' or 'euler_heun' with",
        ),
    ],
)
def test_sentences_about_fractional_noise(call, words):
    with pytest.raises(ValueError, match=words):
        call()
