"""The fractional Ornstein-Uhlenbeck model against the exact normal law of its observations."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from scipy.linalg import toeplitz
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import gendyn as gd
from gendyn.data import Paths
from gendyn.sampling.fractional import noise_autocovariance
from gendyn.sampling.linear import ExactLinear
from gendyn.sde.fractional_likelihood import FractionalLikelihood
from gendyn.sde.quadratic_search import QuadraticSearch
from gendyn.systems import FractionalBrownianMotion, FractionalOrnsteinUhlenbeck


def irregular(hurst: float, n: int = 4, length: int = 40, noise: float = 0.3, seed: int = 0) -> Paths:
    """Return noisy looks at times of each series' own, some of them missing; float64."""
    draw = torch.Generator().manual_seed(seed)
    times = torch.rand(n, length, generator=draw, dtype=torch.float64).add(0.02).cumsum(1)
    truth = FractionalOrnsteinUhlenbeck(hurst=hurst, rate=0.7, volatility=1.3, mean=2.0)
    rows = [truth.paths(t, 1, seed=seed + k, dtype=torch.float64).values[0] for k, t in enumerate(times)]
    values = torch.stack(rows)
    values = values + noise * torch.randn(values.shape, generator=draw, dtype=torch.float64)
    mask = torch.rand(n, length, 1, generator=draw) < 0.8
    return Paths(times, torch.where(mask, values, 0.0), mask)


def law(model: gd.FractionalOU, times: np.ndarray) -> tuple[float, np.ndarray]:
    """Return mean and exact covariance of the process that a model learned, at any times."""
    exact = FractionalOrnsteinUhlenbeck(
        hurst=model.hurst_.item(), rate=model.rate_.item(), volatility=model.volatility_.item()
    )
    return model.mean_.item(), exact.autocovariance(np.abs(times[:, None] - times)).numpy()


def looks(paths: Paths, k: int) -> tuple[np.ndarray, np.ndarray]:
    seen = paths.mask[k, :, 0]
    return paths.times[k][seen].numpy(), paths.values[k, :, 0][seen].numpy()


@pytest.fixture(scope="module", params=[0.15, 0.5, 0.8])
def fitted(request: pytest.FixtureRequest) -> tuple[gd.FractionalOU, Paths]:
    paths = irregular(request.param)
    return gd.FractionalOU(hurst=request.param, noise=0.3).fit(paths), paths


def test_the_score_is_the_exact_log_density(fitted):
    model, _ = fitted
    fresh = irregular(0.4, seed=7)
    total, count = 0.0, 0
    for k in range(len(fresh)):
        times, values = looks(fresh, k)
        mean, cov = law(model, times)
        cov = cov + model.noise_.item() ** 2 * np.eye(len(times))
        total += multivariate_normal(np.full(len(times), mean), cov).logpdf(values)
        count += len(times)
    assert model.score(fresh) == pytest.approx(total / count, abs=1e-3)
    assert model.noise_.item() == pytest.approx(0.3)


@pytest.mark.parametrize(("density", "error"), [(3.0, 0.015), (4.0, 0.004)])
def test_predictions_are_exact_conditioning(fitted, density, error):
    # The error, in deviations of the process, is that of the approximation: more rates make it smaller.
    model, paths = fitted
    model = model.clone().set_params(rates_per_decade=density).fit(paths)
    asked = np.array([-1.0, 0.5, 3.0, 11.0, 30.0])
    mean, (low, high) = model.predict(paths, asked), model.predict_interval(paths, asked, level=0.8)
    for k in range(len(paths)):
        times, values = looks(paths, k)
        level, cov = law(model, np.concatenate([times, asked]))
        n = len(times)
        noisy = cov[:n, :n] + 0.09 * np.eye(n)
        gain = np.linalg.solve(noisy, cov[:n, n:]).T
        deviation = np.sqrt(np.diag(cov[n:, n:] - gain @ cov[:n, n:]))
        assert mean[k, :, 0] == pytest.approx(level + gain @ (values - level), abs=error * math.sqrt(cov[0, 0]))
        assert (high - low)[k, :, 0] / (2 * 1.2815515655) == pytest.approx(deviation, rel=0.01)


def test_paths_given_series_have_the_exact_law(fitted):
    model, paths = fitted
    asked, n = np.array([3.0, 3.2, 40.0]), 4000
    drawn = model.predict_samples(paths, asked, n=n, seed=1)[..., 0]
    mean = model.predict(paths, asked)[..., 0]
    times, _ = looks(paths, 0)
    _, cov = law(model, np.concatenate([times, asked]))
    m = len(times)
    exact = cov[m:, m:] - cov[m:, :m] @ np.linalg.solve(cov[:m, :m] + 0.09 * np.eye(m), cov[:m, m:])
    found = np.cov(drawn[:, 0].T)
    error = np.sqrt((exact**2 + np.outer(np.diag(exact), np.diag(exact))) / n)
    assert (np.abs(found - exact) < 4.5 * error + 0.01 * np.abs(exact)).all()
    assert (np.abs(drawn.mean(0) - mean) < 4.5 * drawn.std(0) / math.sqrt(n)).all()


def test_exact_looks_are_met():
    paths = FractionalOrnsteinUhlenbeck(hurst=0.15).paths(np.arange(0, 6, 0.1), 3, seed=0, dtype=torch.float64)
    model = gd.FractionalOU(noise=0).fit(paths)
    np.testing.assert_allclose(model.predict(paths), paths.values.numpy(), atol=1e-8)
    low, high = model.predict_interval(paths)
    assert (high - low).max() < 1e-5
    np.testing.assert_allclose(model.predict_samples(paths, n=2)[1], paths.values.numpy(), atol=1e-5)


@pytest.mark.parametrize("hurst", [0.2, 0.7])
def test_the_maximum_is_that_of_the_exact_likelihood(hurst):
    times = np.arange(0, 8, 0.2)
    truth = FractionalOrnsteinUhlenbeck(hurst=hurst, rate=1.0, volatility=1.3, mean=2.0)
    values = truth.paths(times, 12, seed=0, dtype=torch.float64).values[:, :, 0].numpy()
    model = gd.FractionalOU(noise=0).fit(values, times=times)

    def exact(point: np.ndarray) -> float:
        h, rate, volatility = 1 / (1 + math.exp(-point[0])), math.exp(point[1]), math.exp(point[2])
        process = FractionalOrnsteinUhlenbeck(hurst=h, rate=rate, volatility=volatility)
        cov = process.autocovariance(np.abs(times[:, None] - times)).numpy()
        return -float(multivariate_normal(np.full(len(times), point[3]), cov).logpdf(values).sum())

    start = [math.log(hurst / (1 - hurst)), 0.0, 0.3, 2.0]
    best = minimize(exact, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-4, "maxiter": 2000})
    assert model.log_likelihood_ == pytest.approx(-best.fun, abs=0.2)
    assert model.hurst_.item() == pytest.approx(1 / (1 + math.exp(-best.x[0])), abs=5e-3)
    assert model.rate_.item() == pytest.approx(math.exp(best.x[1]), rel=0.03)
    assert model.volatility_.item() == pytest.approx(math.exp(best.x[2]), rel=0.02)
    assert model.mean_.item() == pytest.approx(best.x[3], abs=0.01)
    # The standard error is that of the exact curvature, the other parameters profiled out.
    width = 0.1
    grid = [
        minimize(
            lambda p, a=best.x[0] + shift: exact(np.array([a, *p])),
            best.x[1:],
            method="L-BFGS-B",
            options={"ftol": 1e-13},
        ).fun
        for shift in (-width, 0.0, width)
    ]
    error = width / math.sqrt(grid[0] - 2 * grid[1] + grid[2])
    assert model.hurst_error_.item() == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("hurst", [0.15, 0.5, 0.85])
def test_noisy_paths_that_never_return_have_the_exact_maximum(hurst):
    step = 1 / 128
    paths = FractionalBrownianMotion(hurst=hurst).paths(step * np.arange(1, 129), 64, seed=0, dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    noisy = paths.values + 0.05 * torch.randn(paths.values.shape, generator=draw, dtype=torch.float64)
    model = gd.FractionalOU(rate=0, level="own").fit(noisy, times=paths.times)
    # With levels that nothing is known of, the likelihood is that of the increments.
    rises = noisy[:, :, 0].diff(dim=1).numpy()
    n = rises.shape[1]

    def exact(point: np.ndarray) -> float:
        index, volatility, noise = 1 / (1 + math.exp(-point[0])), math.exp(point[1]), math.exp(point[2])
        cov = volatility**2 * toeplitz(noise_autocovariance(torch.arange(n), index, step).numpy())
        cov += noise**2 * toeplitz([2.0, -1.0] + [0.0] * (n - 2))
        root = np.linalg.cholesky(cov)
        white = np.linalg.solve(root, rises.T)
        logs = len(rises) * np.log(np.diag(root)).sum()
        return 0.5 * float((white**2).sum()) + float(logs) + 0.5 * rises.size * math.log(2 * math.pi)

    start, limits = math.log(hurst / (1 - hurst)), [(-4, 4), (-3, 3), (-8, 2)]
    tight = {"ftol": 1e-14, "gtol": 1e-8}
    tries = [
        minimize(exact, [start, 0.0, z], method="L-BFGS-B", bounds=limits, options=tight) for z in (-3.4, -3.0, -6.0)
    ]
    best = min(tries, key=lambda found: found.fun)
    assert model.log_likelihood_ == pytest.approx(-best.fun, abs=0.1)
    found = [math.log(v.item()) for v in (model.hurst_ / (1 - model.hurst_), model.volatility_, model.noise_)]
    assert exact(np.array(found)) == pytest.approx(best.fun, abs=0.1)
    assert model.hurst_.item() == pytest.approx(1 / (1 + math.exp(-best.x[0])), abs=6e-3)
    # Of paths this rough the noise is hardly told: there the likelihood is flat.
    if hurst > 0.2:
        assert model.noise_.item() == pytest.approx(math.exp(best.x[2]), rel=0.01)
    low, high = model.interval(0.99)
    assert low < hurst < high


@pytest.mark.skipif(not os.environ.get("GENDYN_DATA"), reason="needs GENDYN_DATA")
def test_the_nile_has_the_index_and_the_likelihood_of_exact_fractional_noise():
    level = gd.datasets.load("nile").values[0, :, 0].double()
    path = torch.cat([level.new_zeros(1), (level - level.mean()).cumsum(0)])
    model = gd.FractionalOU(rate=0, level="own", noise=0).fit(path[None], times=torch.arange(float(len(path))))
    # Exact likelihood of the centred noise: H = .8315, log-likelihood -3757.463.
    assert model.hurst_.item() == pytest.approx(0.8315, abs=5e-4)
    assert model.log_likelihood_ == pytest.approx(-3757.463, abs=0.05)
    low, high = (v.item() for v in model.interval(0.9))
    assert (high - low) / (2 * 1.645) == pytest.approx(0.0246, rel=0.05)


def test_units_do_not_matter_and_channels_are_alone():
    paths = irregular(0.3, noise=0.2)
    one = gd.FractionalOU().fit(paths)
    moved = Paths(paths.times * 60 + 1e6, paths.values * 5, paths.mask)
    two = gd.FractionalOU().fit(moved)
    torch.testing.assert_close(two.hurst_, one.hurst_, atol=1e-4, rtol=0)
    torch.testing.assert_close(two.rate_ * 60, one.rate_, rtol=1e-3, atol=0)
    torch.testing.assert_close(two.mean_, one.mean_ * 5, rtol=1e-4, atol=0)
    torch.testing.assert_close(two.volatility_, one.volatility_ * 5 / 60**one.hurst_, rtol=1e-3, atol=0)
    torch.testing.assert_close(two.noise_, one.noise_ * 5, rtol=1e-3, atol=0)
    pair = Paths(paths.times, torch.cat([paths.values, paths.values * 5], 2), paths.mask.expand(-1, -1, 2))
    both = gd.FractionalOU().fit(pair)
    torch.testing.assert_close(both.hurst_, one.hurst_.expand(2), atol=1e-4, rtol=0)
    assert both.predict(pair, [1.0]).shape == (4, 1, 2)


def test_series_with_one_law_and_with_laws_of_their_own():
    times = torch.tensor([0.0, 0.3, 1.0, 1.1, 2.5], dtype=torch.float64).expand(3, 5)
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rates = gd.sampling.fractional.relaxation_rates(0.1, 2.5)
    h, rate, ratio = (torch.tensor(v, dtype=torch.float64) for v in ([0.2, 0.8], [1.0, 0.3], [0.1, 0.0]))
    shared = FractionalLikelihood(times, values, rates).profile(h, rate, ratio)
    # A fourth series that nobody looked at makes each have a law of its own, and adds nothing.
    more = torch.cat([values, torch.full((1, 5), torch.nan, dtype=torch.float64)])
    alone = FractionalLikelihood(times[:1].expand(4, 5), more, rates).profile(h, rate, ratio)
    for one, other in zip(shared, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_new_series_and_the_process_have_the_law():
    paths = irregular(0.3)
    model = gd.FractionalOU(noise=0.3).fit(paths)
    clock, n = np.array([0.0, 0.1, 1.0, 4.0]), 20_000
    made = model.sample(n=n, times=clock, seed=0).values[:, :, 0].double().numpy()
    mean, cov = law(model, clock)
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / n)
    assert (np.abs(np.cov(made.T) - cov) < 4.5 * error + 0.005 * cov.max()).all()
    assert abs(made.mean() - mean) < 0.05
    # As a linear process: the increments of the first feature are those of the exact law.
    level, stationary = model.process_.stationary()
    start = torch.distributions.MultivariateNormal(level, stationary + 1e-9 * torch.diag(stationary.diagonal())).expand(
        (n,)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x0 = start.sample()
    run = gd.sample(model.process_, x0, clock, solver=ExactLinear(), substeps=1, seed=0).values[:, :, 0]
    rise = (run[:, 2] - run[:, 1]).square().mean().item()
    assert rise == pytest.approx(cov[1, 1] + cov[2, 2] - 2 * cov[1, 2], rel=0.04)


def test_a_search_holds_what_is_at_its_bound():
    def slope(x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] - (x[:, 1] - 0.2).square()

    low, high = torch.tensor([-1.0, -1.0]).double(), torch.tensor([1.0, 1.0]).double()
    search = QuadraticSearch(slope, low, high)
    state = search.begin(torch.tensor([[0.0, 0.9]]).double())
    while not state.done:
        state = search.advance(state)
    torch.testing.assert_close(state.point, torch.tensor([1.0, 0.2]).double())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hurst": 1.0}, "hurst must be 'estimate' or lie between 0 and 1; got 1.0"),
        ({"hurst": "learn"}, "hurst must be 'estimate'"),
        ({"noise": -1.0}, "noise must be 'estimate' or a standard deviation of at least 0"),
        ({"rates_per_decade": 0.0}, "rates_per_decade must be positive"),
        ({"level": "none"}, "level must be 'shared' or 'own'"),
        ({"rate": -1.0}, "rate must be 'estimate' or a rate of at least 0"),
        ({"rate": 0}, "has no level to share; give level='own' with rate=0"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
    ],
)
def test_sentences_about_parameters(options, words):
    with pytest.raises(ValueError, match=words):
        gd.FractionalOU(**options).fit(irregular(0.5))


def test_sentences_about_data():
    with pytest.raises(ValueError, match="channel 0 is constant"):
        gd.FractionalOU().fit(torch.ones(3, 10))
    with pytest.raises(ValueError, match="has 4 observed values; at least 8"):
        gd.FractionalOU().fit(torch.arange(4.0)[None])
    with pytest.raises(ValueError, match="series of at least two times"):
        gd.FractionalOU().fit(torch.randn(10, 1, generator=torch.Generator().manual_seed(0)))
    model = gd.FractionalOU(hurst=0.5, noise=0).fit(torch.randn(2, 20, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="fitted on 1 channels; the series have 2"):
        model.score(torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        model.interval(1.0)
    with pytest.raises(ValueError, match="n must be at least 1"):
        model.predict_samples(torch.zeros(1, 3), n=0)
    with pytest.raises(ValueError, match="times must be finite"):
        model.predict(torch.zeros(1, 3), [math.nan])
    with pytest.raises(TypeError, match="has no option 'solver'"):
        model.sample(solver="heun")
