"""Densities of diffusions from paths that run back, against Gaussians."""

from __future__ import annotations

import pytest
import torch

from gendyn.sampling import ODE, SDE, diffusion_log_prob, flow_log_prob

RATE = torch.tensor([[1.0, 0.4], [-0.3, 0.6]], dtype=torch.float64)
SPREAD = torch.tensor([[0.8, 0.0], [0.3, 0.5]], dtype=torch.float64)
PULLED = SDE(lambda t, x: -x @ RATE.T, lambda t, x: SPREAD, dim=2, noise_type="additive", noise_dim=2)
BASE = torch.distributions.MultivariateNormal(torch.ones(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
POINTS = torch.tensor([[0.0, 0.0], [0.5, 0.3], [-0.4, 0.8]], dtype=torch.float64)


def law(t: float) -> torch.distributions.MultivariateNormal:
    """Return the exact Gaussian at a time, by the matrix exponential of the moments' equation (Van Loan 1978)."""
    block = torch.zeros(4, 4, dtype=torch.float64)
    block[:2, :2], block[:2, 2:], block[2:, 2:] = RATE, SPREAD @ SPREAD.T, -RATE.T
    grown = torch.matrix_exp(block * t)
    decay = grown[2:, 2:].T
    return torch.distributions.MultivariateNormal(
        decay @ torch.ones(2, dtype=torch.float64), decay @ decay.T + decay @ grown[:2, 2:]
    )


def test_the_density_of_a_linear_diffusion() -> None:
    found = diffusion_log_prob(PULLED, POINTS, [0.0, 0.7], BASE.log_prob, paths=20_000, step=0.01, seed=1)
    exact = law(0.7).log_prob(POINTS)
    torch.testing.assert_close(found.estimate, exact, rtol=0, atol=0.02)
    assert (found.bound < exact).all()


def test_hutchinson_agrees_where_the_drift_is_linear() -> None:
    exact, rough = (
        diffusion_log_prob(
            PULLED, POINTS, [0.0, 0.5], BASE.log_prob, paths=4000, step=0.05, seed=1, divergence=d, probes=4
        )
        for d in ("exact", "hutchinson")
    )
    torch.testing.assert_close(rough.bound, exact.bound, rtol=0, atol=0.02)


def test_without_noise_it_is_the_density_along_the_flow() -> None:
    flow = ODE(lambda t, x: torch.sin(x) + t, dim=2)
    found = diffusion_log_prob(flow, POINTS, [0.0, 1.0], BASE.log_prob, paths=1, step=0.01)
    truth = flow_log_prob(flow, POINTS, [0.0, 1.0], BASE.log_prob, step=0.01)
    torch.testing.assert_close(found.bound, truth, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.estimate, found.bound)


def test_minus_the_bound_is_above_the_entropy() -> None:
    exact = law(0.7)
    z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = exact.mean + z @ exact.scale_tril.T
    found = diffusion_log_prob(PULLED, data, [0.0, 0.7], BASE.log_prob, paths=100, step=0.02, seed=3)
    truth = float(exact.log_prob(data).mean())
    assert float(found.bound.mean()) < truth
    assert float(found.estimate.mean()) == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"paths": 0}, "paths must be a whole number of at least 1"),
        ({"divergence": "rough"}, "divergence must be one of .*'hutchinson'"),
        ({"times": [1.0, 0.0]}, "at least two rising times"),
        ({"x": torch.zeros(2)}, r"must hold real points \(B, d\)"),
        ({"step": None}, "names no time_step of its own; give step="),
        ({"base_log_prob": lambda x: x}, "base_log_prob must return shape"),
        (
            {"process": SDE(lambda t, x: -x, lambda t, x: x, dim=2)},
            "noise that does not depend on the position; SDE has diagonal noise",
        ),
    ],
)
def test_sentences(change: dict, words: str) -> None:
    given = {"process": PULLED, "x": POINTS, "times": [0.0, 0.5], "base_log_prob": BASE.log_prob, "step": 0.1}
    with pytest.raises(ValueError, match=words):
        diffusion_log_prob(**(given | change))
