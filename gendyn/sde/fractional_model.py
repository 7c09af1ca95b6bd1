r"""A fractional SDE given series: the prior, noisy looks at it, and its law given these.

With the state :math:`z = (X, Y, \xi)` of each feature, where Y carries the memory of the noise and :math:`\xi` is what
the modes of its past weigh, prior and posterior step by

.. math::

    z' = \Phi z + c + \nu(x)\,p + R\,\varepsilon, \qquad \varepsilon \sim \mathcal N(0, I), \qquad
    \varepsilon \sim \mathcal N\Bigl(\frac{e^{\rho} (o - \Gamma z - \nu(x)\,q)}{1 + e^{\rho} s} + v,\
    \frac{1}{1 + e^{\rho} s}\Bigr)

with the pull of the observations on the linear part of the prior (:mod:`gendyn.sde.fractional_guide`), and a network
that begins with zero for what is left: :math:`\rho`, by how much more or less the observations are to be trusted, and a
shift v of X. For a linear prior the pull is the posterior and there is no network. Under ``"control"`` the noise
stays and the network adds to the control. The first state is drawn likewise, so that
:math:`Y_0` or :math:`\xi` have a posterior too. The bound is

.. math:: \log p(y) \ge E_q\Bigl[\sum_i \log p(y_i \mid X_{t_i}) - \sum_k KL_k\Bigr] - KL_0 .

The pull is held when the bound is differentiated: of a linear prior, where it is the best there is, its slope is zero.
All but networks is float64.

With a diffusion that depends on the state X is a function of a state U whose diffusion does not
(:mod:`gendyn.sde.lamperti`). All of the above is of U, and an observation is no longer linear in it: what it pulls to
is the best normal one (:mod:`gendyn.sde.observation_sites`), and without a network the density of observations is
expected by quadrature.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gendyn.nn import MLP, seeded_linear
from gendyn.randomness import derive_seed, torch_generator
from gendyn.sampling.fractional.shared_driver import driven_covariance, symmetric_root
from gendyn.sde.fractional_guide import Guide, Posterior, guide, steering_roots
from gendyn.sde.fractional_prior import FractionalPrior
from gendyn.sde.fractional_steps import FractionalSteps, fractional_steps
from gendyn.sde.lamperti import LampertiTransform
from gendyn.sde.latent_model import EvidenceBound, ReverseEncoder
from gendyn.sde.observation_sites import expected_square, first_sites, observation_sites
from gendyn.sde.series import Series

__all__ = ["FractionalModel"]

_TRUST = 3.0
r"""Largest :math:`|\rho|`."""

_ROUNDS = 3
"""How often the pull of observations of a transformed state is found anew."""


class _Layout(NamedTuple):
    """How series and samples are spread over laws: one law for all series, or one for each.

    Arrays of laws are ``(G, D, C, ...)`` with ``C = S B / G`` columns; arrays of series are ``(S, B, D, ...)``.
    """

    laws: int
    samples: int

    def series(self, x: Tensor) -> Tensor:
        """Return an array of laws as one of series."""
        apart = x.reshape(*x.shape[:2], self.samples, -1, *x.shape[3:])
        return apart.movedim(1, 3).movedim(1, 0).flatten(1, 2)

    def law(self, x: Tensor) -> Tensor:
        """Return an array of series as one of laws."""
        apart = x.reshape(len(x), self.laws, -1, *x.shape[2:])
        return apart.movedim(0, 1).movedim(3, 1).flatten(2, 3)

    def repeat(self, x: Tensor) -> Tensor:
        """Return an array of laws with the columns of one sample, for all samples."""
        return x if self.samples == 1 else x.repeat(1, 1, self.samples, *[1] * (x.ndim - 3))


class _Batch(NamedTuple):
    """What is known of a batch before anything is drawn."""

    steps: FractionalSteps
    pulls: Guide
    turned: Tensor
    start_mean: Tensor
    start_root: Tensor
    values: Tensor
    seen: Tensor
    told: tuple[Tensor, ...]
    active: tuple[Tensor, ...]
    begin: Tensor | None


class FractionalModel(nn.Module):
    """Prior, posterior and observations of a fractional SDE; channels are features, seen with noise.

    Parameters
    ----------
    prior
        The process.
    noise
        Standard deviation of the noise of an observation of each channel, where it is known.
    posterior
        ``"guided"`` or ``"control"``.
    hidden, context
        Width of the network of the posterior, and number of features by which it is told of a series.
    transform
        From what is observed to the states of the prior; none where these are observed.
    seed
        Of the initial weights.

    Attributes
    ----------
    log_noise : Tensor
        Logarithm of the deviation of each channel's observations.

    Examples
    --------
    >>> from gendyn.sampling.fractional import HurstFamily, rates_between
    >>> from gendyn.sde import read_series
    >>> from gendyn.sde.approach_times import approach_times
    >>> values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    >>> series = read_series(values, times=torch.linspace(0, 1, 5))
    >>> prior = FractionalPrior(1, HurstFamily(rates_between(0.1, 1.0, 5), 1.0), "linear")
    >>> model = FractionalModel(prior)
    >>> model.bound(series, *approach_times(series.times, series.lengths), seed=0).value().shape
    torch.Size([3])
    """

    rates: Tensor

    def __init__(
        self,
        prior: FractionalPrior,
        noise: Tensor | None = None,
        posterior: Posterior = "guided",
        hidden: int = 32,
        context: int = 16,
        *,
        transform: LampertiTransform | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        dim = prior.dim
        self.prior, self.posterior, self.transform = prior, posterior, transform
        start = torch.full((dim,), math.log(0.3)) if noise is None else noise.log()
        self.log_noise = nn.Parameter(start, requires_grad=noise is None)
        self.free_noise = noise is None
        self.register_buffer("rates", torch.as_tensor(prior.family.rates, dtype=torch.float64), persistent=False)
        self.net: nn.Module | None = None
        if prior.net is not None:
            generator, size = torch_generator(seed, "posterior"), len(prior.family.rates)
            self.encoder = ReverseEncoder(dim, context, seed=seed)
            self.table = MLP(context + 2, hidden, (hidden,), "softplus", seed=derive_seed(seed, "table"))
            self.state = seeded_linear(dim * (size + 2), hidden, generator)
            self.net = MLP(hidden, 2 * dim, (hidden,), "softplus", seed=derive_seed(seed, "control"), final_scale=0.0)
            self.begin = seeded_linear(context, dim * self.width, generator, scale=0.0)

    @property
    def width(self) -> int:
        """Number d of numbers in the state of a feature."""
        return 1 + len(self.rates) + self.prior.family.n_modes

    def bound(self, series: Series, grid: Tensor, places: Tensor, *, seed: int, n_samples: int = 1) -> EvidenceBound:
        """Return the bound of the evidence of series.

        Parameters
        ----------
        series
            In the units of the grid, times from 0.
        grid, places
            Of :func:`~gendyn.sde.approach_times.approach_times`.
        seed
            Of the noise.
        n_samples
            Noise paths ``S`` of each series. Without a network all is normal, and the expectation is taken exactly: S
            is 1, and nothing is drawn.
        """
        batch = self._prepare(series, grid, places)
        exact = self._expected(batch)
        if self.net is None:
            return exact
        found = self._sampled(batch, seed, n_samples)
        # The linear part is known exactly: what the same noise makes of it is a control variate.
        plain = self._sampled(batch, seed, n_samples, residual=False)
        return EvidenceBound(*(f - p + e for f, p, e in zip(found, plain, exact, strict=True)))

    def paths(self, series: Series, grid: Tensor, places: Tensor, *, seed: int, n_samples: int = 1) -> Tensor:
        """Return paths of the states of the prior given series, ``(S, B, M, D)``; arguments as of :meth:`bound`."""
        batch = self._prepare(series, grid, places)
        layout = _Layout(len(batch.start_mean), n_samples)
        return layout.series(self._run(batch, layout, seed, residual=self.net is not None)[0]).movedim(-1, 2)

    # --- inside --------------------------------------------------------------------------------------------

    def _sampled(self, batch: _Batch, seed: int, samples: int, residual: bool = True) -> EvidenceBound:
        """Return the bound from paths, with or without the networks."""
        layout = _Layout(len(batch.start_mean), samples)
        x, spent, started = self._run(batch, layout, seed, residual)
        noise = self.log_noise.to(torch.float64)[:, None, None]
        values, seen = (layout.repeat(part.movedim(0, -1)) for part in (batch.values, batch.seen))
        if self.transform is not None:
            x = self.transform.inverse(x.movedim(1, -1)).movedim(-1, 1)
        density = -0.5 * ((values - x) / noise.exp()).square() - noise - 0.5 * math.log(2 * math.pi)
        told = layout.series(torch.where(seen, density, 0.0).sum(-1)).sum(-1)
        first = layout._replace(samples=1).series(started)[0].sum(-1)
        return EvidenceBound(told, layout.series(spent).sum(-1), first)

    def _run(self, batch: _Batch, layout: _Layout, seed: int, residual: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return paths ``(G, D, C, M)``, and divergences of paths and of their starts."""
        generator = torch_generator(seed, "path")

        def normals(like: Tensor, count: int) -> Tensor:
            shape = *like.shape[:-1], count
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)

        s, turn, offset, *_ = batch.pulls.start
        aim = offset / (1 + s)[..., None, :]
        if batch.begin is not None and residual:
            aim = aim + batch.begin
        started = 0.5 * ((torch.log1p(s) - s / (1 + s))[..., None, :] + aim.square()).sum(-1)
        aim = layout.repeat(aim)
        drawn = aim + normals(aim, aim.shape[-1]) * torch.rsqrt(1 + s)[..., None, :]
        z = batch.start_mean[..., None, :] + drawn @ (batch.start_root @ turn).mT
        xs, spent = [z[..., 0]], z.new_zeros(z.shape[:-1])
        guided = self.posterior == "guided"
        pulls = batch.pulls.steps
        for k in range(len(batch.steps.gaps)):
            phi, turned, s = batch.steps.matrix[k], batch.turned[k], pulls.strength[k][..., None, :]
            moved = z @ phi.mT + batch.steps.shift[k][..., None, :]
            pulled = layout.repeat(pulls.offset[k]) - z @ pulls.gain[k]
            if residual:
                moved, pulled, s, shift = self._residual(k, z, moved, pulled, s, batch, layout)
                mean = pulled / (1 + s) + shift
            else:
                mean = pulled / (1 + s)
            if guided:
                z = moved + (mean + normals(mean, mean.shape[-1]) * torch.rsqrt(1 + s)) @ turned.mT
                spent = spent + 0.5 * (torch.log1p(s) - s / (1 + s) + mean.square()).sum(-1)
            else:
                root = batch.steps.root[k]
                z = moved + mean @ turned.mT + normals(mean, root.shape[-1]) @ root.mT
                spent = spent + 0.5 * mean.square().sum(-1)
            xs.append(z[..., 0])
        return torch.stack(xs, -1), spent, started

    def _expected(self, batch: _Batch) -> EvidenceBound:
        """Return the bound without networks, from the moments of the state under the posterior."""
        means, variances, spent, started = self._moments(batch)
        noise = self.log_noise.to(torch.float64)[:, None]
        if self.transform is None:
            error = (batch.values - means).square() + variances[..., None]
        else:
            error = expected_square(self.transform, batch.values, means, variances)
        density = -0.5 * error * torch.exp(-2 * noise) - noise - 0.5 * math.log(2 * math.pi)
        layout = _Layout(len(batch.start_mean), 1)
        told, path, first = (
            layout.series(part).sum(-1) for part in (torch.where(batch.seen, density, 0.0).sum(0), spent, started)
        )
        return EvidenceBound(told, path, first[0])

    def _moments(self, batch: _Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mean and variance of X at all times without networks, and divergences of paths and starts."""
        s, turn, offset, *_ = batch.pulls.start
        aim, root = offset / (1 + s)[..., None, :], batch.start_root @ turn
        started = 0.5 * ((torch.log1p(s) - s / (1 + s)).sum(-1)[..., None] + aim.square().sum(-1))
        mean = batch.start_mean[..., None, :] + aim @ root.mT
        covariance = root / (1 + s)[..., None, :] @ root.mT
        guided, pulls = self.posterior == "guided", batch.pulls.steps
        means, variances, spent = [mean[..., 0]], [covariance[..., 0, 0]], torch.zeros_like(started)
        for k in range(len(batch.steps.gaps)):
            s, turned = pulls.strength[k], batch.turned[k]
            loop = pulls.gain[k] / (1 + s)[..., None, :]
            aim = pulls.offset[k] / (1 + s)[..., None, :] - mean @ loop
            matrix = batch.steps.matrix[k] - turned @ loop.mT
            cost = aim.square().sum(-1) + ((covariance @ loop) * loop).sum((-2, -1))[..., None]
            if guided:
                cost = cost + (torch.log1p(s) - s / (1 + s)).sum(-1)[..., None]
                added = turned / (1 + s)[..., None, :] @ turned.mT
            else:
                added = batch.steps.root[k] @ batch.steps.root[k].mT
            spent = spent + 0.5 * cost
            mean = mean @ batch.steps.matrix[k].mT + batch.steps.shift[k][..., None, :] + aim @ turned.mT
            covariance = matrix @ covariance @ matrix.mT + added
            means.append(mean[..., 0])
            variances.append(covariance[..., 0, 0])
        return torch.stack(means), torch.stack(variances), spent, started

    def _residual(
        self, k: int, z: Tensor, moved: Tensor, pulled: Tensor, s: Tensor, batch: _Batch, layout: _Layout
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Add the drift of the network to a step, and what the network of the posterior says."""
        assert self.net is not None
        x = layout.series(z[..., 0])
        extra = self.prior.extra(x)
        if extra is not None:
            force = layout.law(extra)
            added = force * batch.steps.push[k][..., None]
            moved = torch.cat([moved[..., :1] + added[..., None], moved[..., 1:]], -1)
            pulled = pulled - force[..., None] * batch.pulls.steps.push[k][..., None, :]
        # The direction of the noise in which X moves, and how far it is pulled along it.
        top = batch.turned[k].detach()[..., 0, :]
        along = top / top.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        pull = ((pulled / (1 + s)) * along[..., None, :]).sum(-1)
        memory = z[..., 1 : 1 + len(self.rates)] * (2 * self.rates).sqrt()
        seen = torch.cat([x, layout.series(pull), layout.series(memory).flatten(2)], -1).to(self.log_noise.dtype)
        found = self.net(softplus(self.state(seen) + batch.told[k])) * batch.active[k]
        control, trust = layout.law(found.to(torch.float64).reshape(*x.shape[:2], 2, -1).movedim(-2, -1)).unbind(-1)
        shift = (control * batch.steps.gaps[k].sqrt()[..., None, None])[..., None] * along[..., None, :]
        if self.posterior == "guided":
            scale = torch.exp(_TRUST * torch.tanh(trust / _TRUST))[..., None]
            pulled, s = pulled * scale, s * scale
        return moved, pulled, s, shift

    def _prepare(self, series: Series, grid: Tensor, places: Tensor) -> _Batch:
        """Return transitions, pulls and observations of a batch."""
        prior, device, batch = self.prior, self.rates.device, len(series)
        clock = (grid[None] if grid.ndim == 1 else grid).to(device)
        rows = torch.arange(series.times.shape[1]) < series.lengths[:, None]
        seen = series.seen & rows.to(device)[..., None]
        at = places[:, : series.times.shape[1]].to(device)[..., None].expand_as(seen)
        empty = torch.zeros(batch, clock.shape[1], series.dim, dtype=torch.float64, device=device)
        values = empty.scatter_add(1, at, torch.where(seen, series.values.nan_to_num(), 0.0).to(torch.float64))
        there = empty.scatter_add(1, at, seen.to(torch.float64)) > 0
        alike = self.transform is None and len(clock) == 1 and bool((there == there[:1]).all())
        laws = 1 if alike else batch
        # (B, M, D) as (M, G, D, B / G).
        values, there = (part.reshape(laws, -1, *part.shape[1:]).permute(2, 0, 3, 1) for part in (values, there))
        theta, offset = prior.rate.to(torch.float64), prior.offset.to(torch.float64)
        weights, jumps = prior.weights(clock)
        rises = None
        if prior.family.modes:
            modes = prior.family.past_modes(prior.hurst.cpu(), clock.cpu()).to(device)
            rises = (prior.volatility[:, None] * modes.diff(dim=1)).movedim(0, 1)
        steps = fractional_steps(clock.diff(dim=1).mT, self.rates, weights, theta, offset, rises, jumps)
        steps = FractionalSteps(*(part.expand(-1, laws, *part.shape[2:]) for part in steps))
        mean = torch.nn.functional.pad(prior.start_mean.to(torch.float64)[:, None], (0, self.width - 1))
        root = self._start_root()
        if self.transform is None:
            looked = there[..., 0].to(torch.float64) * torch.exp(-2 * self.log_noise.to(torch.float64))
            with torch.no_grad():
                pulls = guide(steps.detach(), mean, root, values, looked, self.posterior)
        else:
            pulls = self._site_pulls(self.transform, steps.detach(), mean.detach(), root.detach(), values, there)
        turned = steering_roots(steps, self.posterior) @ pulls.steps.turn
        told, active, begin = self._context(series, clock, laws) if self.net is not None else ((), (), None)
        mean, root = mean.expand(laws, -1, -1), root.expand(laws, -1, -1, -1)
        return _Batch(steps, pulls, turned, mean, root, values, there, told, active, begin)

    def _site_pulls(
        self,
        transform: LampertiTransform,
        steps: FractionalSteps,
        mean: Tensor,
        root: Tensor,
        values: Tensor,
        there: Tensor,
    ) -> Guide:
        """Return the pulls of observations of a transformed state; where they pull to moves with the transform."""
        laws, precision = values.shape[1], torch.exp(-2 * self.log_noise.detach().to(torch.float64))[:, None]
        begun = mean.expand(laws, -1, -1), root.expand(laws, -1, -1, -1)
        looked = there.to(torch.float64) * precision
        with torch.no_grad():
            goals, weights = first_sites(transform, values, looked)
            for _ in range(_ROUNDS):
                pulls = guide(steps, mean, root, goals, weights, self.posterior)
                turned = steering_roots(steps, self.posterior) @ pulls.steps.turn
                moments = self._moments(_Batch(steps, pulls, turned, *begun, values, there, (), (), None))[:2]
                goals, weights = observation_sites(transform, values, looked, *moments)
        goals = observation_sites(transform, values, looked, *moments)[0]
        return guide(steps, mean, root, goals, weights, self.posterior)

    def _start_root(self) -> Tensor:
        """Return the root of the covariance of the first state under the prior, ``(D, d, d)``."""
        prior, size = self.prior, len(self.rates)
        memory = self.rates.new_zeros(size, size)
        if prior.family.stationary:
            memory = symmetric_root(driven_covariance(self.rates, self.rates.new_tensor(math.inf)))
        modes = prior.family.n_modes
        rest = torch.nn.functional.pad(memory, (0, modes, 0, modes))
        rest = rest + torch.diag(torch.nn.functional.pad(memory.new_ones(modes), (size, 0)))
        first = torch.nn.functional.pad(prior.start_log_deviation.to(torch.float64).exp()[:, None], (0, self.width - 1))
        lower = torch.nn.functional.pad(rest, (1, 0)).expand(prior.dim, -1, -1)
        return torch.cat([first[:, None], lower], 1)

    def _context(
        self, series: Series, clock: Tensor, laws: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """Return what the network is told of each step, where it has a say, and shifts of the start."""
        contexts = self.encoder(series)
        like, ends = contexts, (series.lengths - 1)[:, None]
        now = clock.cpu().expand(len(series), -1)[:, :-1].contiguous()
        # The first row strictly after each time of the grid.
        row = torch.searchsorted(series.times.contiguous(), now, right=True)
        active = (row <= ends).to(like)[..., None]
        row = torch.minimum(row, ends)
        gap = (series.times.gather(1, row) - now).clamp_min(0.0).to(like)[..., None]
        near = contexts.gather(1, row.to(like.device)[..., None].expand(-1, -1, contexts.shape[2]))
        told = self.table(torch.cat([near, gap, (gap + 1e-3).log()], 2))
        begin = self.begin(contexts[:, 0]).to(torch.float64).reshape(len(series), self.prior.dim, -1)
        return told.unbind(1), active.unbind(1), _Layout(laws, 1).law(begin[None])
