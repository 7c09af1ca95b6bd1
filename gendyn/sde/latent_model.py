r"""A latent SDE: a prior process, what it shows, and its law given a series.

Prior, observations and posterior are

.. math::

    dz = h(z)\,dt + g(z)\,dW, \quad z_0 \sim p_0, \qquad
    x_l \sim \mathcal N(d(z_{t_l}), s^2), \qquad
    dz = \bigl(h(z) + g(z)\,u\bigr) dt + g(z)\,dW, \quad z_0 \sim q_0 ,

and the evidence is bounded by what is learned,

.. math:: \log p(x) \ge E_q\Bigl[\sum_l \log p(x_l \mid z) - \tfrac12 \int |u|^2 dt\Bigr] - KL(q_0 \,\|\, p_0) .

The control u steers to an aim a that a network reads off the next observation and all that follow. A Brownian path that
is to be within variance :math:`w g^2` of a after a time :math:`\delta` steps by

.. math::

    u = \frac{c\,(a - z)}{g\,(\delta + w)} + \nu(z), \qquad
    \operatorname{Var} = r\, g^2\, \Delta t, \quad r = 1 - \frac{c\, \Delta t}{\delta + w}

with c = 1: the step of a bridge narrows. With learned a, c and w and a network :math:`\nu` this is the posterior.
A step costs :math:`\tfrac12 |u|^2 \Delta t + \tfrac12 \sum (r - 1 - \log r)`, so that the bound holds exactly, however
long the steps are, for the prior in Euler-Maruyama steps. After the last observation prior and posterior are one.

Within a step all that does not depend on the state is constant, so that each step is a stochastic differential equation
of its own, which torchsde's adjoint goes back along; the divergence is a feature of it. The bound is the same, and its
gradient is that of equations in continuous time: nearer to it, the shorter the steps are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gendyn.data import time_since_observation
from gendyn.nn import MLP, seeded_linear
from gendyn.randomness import derive_seed, torch_generator
from gendyn.sampling import sample, sample_with_torchsde
from gendyn.sde.series import Series

__all__ = ["EvidenceBound", "LatentModel", "LatentPrior", "ReverseEncoder"]

Gradient = Literal["none", "backprop", "checkpoint", "adjoint"]


class EvidenceBound(NamedTuple):
    """The parts of the bound, of each noise path and series ``(S, B)``; the last of each series ``(B,)``."""

    log_likelihood: Tensor
    path_divergence: Tensor
    start_divergence: Tensor

    def value(self, beta: float = 1.0) -> Tensor:
        """Return the bound of each series ``(B,)``, with divergences that count ``beta``."""
        return (self.log_likelihood - beta * self.path_divergence).mean(0) - beta * self.start_divergence


class LatentPrior(nn.Module):
    """The prior process: a drift without time, and of each feature a diffusion of its own value.

    Parameters
    ----------
    latent
        Number of features.
    hidden
        Width of the networks.
    seed
        Of the initial weights.

    Examples
    --------
    >>> prior = LatentPrior(2, 16)
    >>> bool((prior.diffusion(torch.zeros(()), torch.randn(5, 2)) > 0).all())
    True
    """

    noise_type: Literal["diagonal"] = "diagonal"
    calculus: Literal["ito"] = "ito"
    time_step = 0.02

    def __init__(self, latent: int, hidden: int, *, seed: int = 0) -> None:
        super().__init__()
        self.dim = self.noise_dim = latent
        self.net = MLP(latent, latent, (hidden, hidden), "softplus", seed=derive_seed(seed, "prior"))
        generator = torch_generator(seed, "diffusion")
        inner = 8
        self.slope = nn.Parameter(torch.randn(latent, inner, generator=generator))
        self.offset = nn.Parameter(torch.randn(latent, inner, generator=generator))
        self.weight = nn.Parameter(torch.randn(latent, inner, generator=generator) / inner)
        self.level = nn.Parameter(torch.zeros(latent))
        self.log_scale = nn.Parameter(torch.zeros(latent))

    def drift(self, t: Tensor, z: Tensor) -> Tensor:
        """Return the drift ``(B, h)``."""
        drift: Tensor = self.net(z)
        return drift

    def diffusion(self, t: Tensor, z: Tensor) -> Tensor:
        """Return the diffusion ``(B, h)``, between 0 and a scale of each feature."""
        inner = softplus(z[:, :, None] * self.slope + self.offset)
        return self.log_scale.exp() * torch.sigmoid((inner * self.weight).sum(-1) + self.level)


class ReverseEncoder(nn.Module):
    """What a series tells from each of its rows on ``(B, L, c)``: a recurrent network that reads it from its end.

    Parameters
    ----------
    dim
        Number of channels.
    context
        Number of features ``c``.
    seed
        Of the initial weights.
    """

    def __init__(self, dim: int, context: int, *, seed: int = 0) -> None:
        super().__init__()
        # Its own initial weights are drawn from the global generator, which is put back.
        with torch.random.fork_rng(devices=[]):
            self.recurrent = nn.GRU(3 * dim + 1, context, batch_first=True)
        generator, reach = torch_generator(seed, "encoder"), context**-0.5
        with torch.no_grad():
            for weight in self.recurrent.parameters():
                weight.uniform_(-reach, reach, generator=generator)

    def forward(self, series: Series) -> Tensor:
        """Return contexts ``(B, L, c)``; those of a row know it and all that follow."""
        values, seen = series.values, series.seen
        times = series.times.to(values)
        gap = torch.cat([times.diff(dim=1), torch.zeros_like(times[:, :1])], dim=1)[:, :, None]
        since = time_since_observation(series.times, seen).to(values)
        told = torch.cat([values.nan_to_num(), seen.to(values), since, gap], dim=2)
        # Each series turned round within its own length, so that padding comes last and is never read.
        ends = series.lengths.to(values.device)[:, None]
        at = torch.arange(told.shape[1], device=values.device)
        back = torch.where(at < ends, ends - 1 - at, at)[:, :, None]
        found, _ = self.recurrent(told.gather(1, back.expand_as(told)))
        contexts: Tensor = found.gather(1, back.expand_as(found))
        return contexts


class _Steps:
    """Posterior and prior in one equation whose time counts steps; its last feature is the divergence spent so far."""

    noise_type: Literal["diagonal"] = "diagonal"
    calculus: Literal["ito"] = "ito"

    def __init__(self, model: LatentModel, series: Series, grid: Tensor, count: int) -> None:
        self.model = model
        self.dim = self.noise_dim = model.latent + 1
        self.parts = model.plan(series, grid, count)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift over a step."""
        return self.drift_diffusion(t, x)[0]

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion over a step."""
        return self.drift_diffusion(t, x)[1]

    def drift_diffusion(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both."""
        return _step_coefficients(self.model, self.parts[int(t)].first(len(x)), x)


class _OneStep:
    """A step of :class:`_Steps`, over a unit of time."""

    noise_type: Literal["diagonal"] = "diagonal"
    calculus: Literal["ito"] = "ito"

    def __init__(self, model: LatentModel, part: StepPart) -> None:
        self.model, self.part = model, part
        self.dim = self.noise_dim = model.latent + 1

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift over the step."""
        return _step_coefficients(self.model, self.part.first(len(x)), x)[0]

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion over the step."""
        return _step_coefficients(self.model, self.part.first(len(x)), x)[1]

    def parameters(self) -> Iterator[Tensor]:
        """Return what a step's coefficients are computed from, without what the parts of the step come from."""
        for module in (self.model.prior, self.model.state, self.model.extra):
            yield from module.parameters()
        yield from self.part


def _step_coefficients(model: LatentModel, part: StepPart, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return drift and diffusion over a step, of a state and the divergence it has spent."""
    z = x[:, :-1]
    g = model.prior.diffusion(part.time, z)
    u, r = model.steer(z, g, part)
    f = model.prior.drift(part.time, z) + g * u
    spent = 0.5 * (u.square() * part.step + r - 1 - r.log()).sum(1, keepdim=True)
    # Roots of each by itself: the root of a product has no gradient where a step has no length.
    g = g * r.sqrt() * part.step.sqrt()
    return torch.cat([f * part.step, spent], dim=1), torch.cat([g, torch.zeros_like(spent)], dim=1)


class StepPart(NamedTuple):
    """What a step knows without the state; all ``(B, ...)``."""

    time: Tensor
    step: Tensor
    narrowing: Tensor
    """``c / (delta + w)``, zero after the last observation."""
    aim: Tensor
    context: Tensor
    active: Tensor

    def first(self, count: int) -> StepPart:
        """Return the first rows."""
        return self if count == len(self.aim) else StepPart(*(part[:count] for part in self))


class LatentModel(nn.Module):
    """Prior, posterior and observations of a latent SDE.

    Parameters
    ----------
    dim
        Number of channels ``D``.
    latent
        Number of features ``h`` of the latent path.
    hidden
        Width of the networks.
    context
        Number of features of a context.
    seed
        Of the initial weights.

    Attributes
    ----------
    prior : LatentPrior
        The prior process.
    decoder : nn.Module
        From latent states to means of the channels.
    log_noise : Tensor
        Logarithm of the deviation of each channel's observations.
    start_mean, start_log_deviation : Tensor
        Of the normal law at the first time, under the prior.

    Examples
    --------
    >>> from gendyn.sde import read_series, step_times
    >>> series = read_series(torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0)))
    >>> grid, places = step_times(series.times, series.lengths, longest=0.5, wanted=series.times)
    >>> model = LatentModel(2, latent=3, hidden=8, context=4)
    >>> model.bound(series, grid, places, seed=0).value().shape
    torch.Size([3])
    """

    def __init__(self, dim: int, latent: int, hidden: int, context: int, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch_generator(seed, "posterior")
        self.latent = latent
        self.prior = LatentPrior(latent, hidden, seed=seed)
        self.decoder: nn.Module = MLP(latent, dim, (hidden,), "softplus", seed=derive_seed(seed, "decoder"), skip=True)
        self.log_noise = nn.Parameter(torch.full((dim,), math.log(0.3)))
        self.start_mean = nn.Parameter(torch.zeros(latent))
        self.start_log_deviation = nn.Parameter(torch.zeros(latent))
        self.encoder = ReverseEncoder(dim, context, seed=seed)
        self.begin = seeded_linear(context, 2 * latent, generator)
        self.table = MLP(context + 2, 2 * latent + hidden, (hidden,), "softplus", seed=derive_seed(seed, "table"))
        self.state = seeded_linear(latent, hidden, generator)
        self.extra = seeded_linear(hidden, latent, generator, scale=0.0)
        self.log_width = nn.Parameter(torch.zeros(latent))

    def start(self, series: Series) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the deviation of the state at the first time ``(B, h)``, given the series."""
        mean, log_deviation = self.begin(self.encoder(series)[:, 0]).chunk(2, dim=1)
        return mean, log_deviation

    def plan(self, series: Series, grid: Tensor, count: int = 1) -> list[StepPart]:
        """Return what each step of a grid knows without the state, ``count`` times over."""
        like, batch = series.values, len(series)
        clock = grid.expand(batch, -1).contiguous()
        ends = (series.lengths - 1)[:, None]
        last = series.times.gather(1, ends)
        slack = 1e-9 * float((last - series.times[:, :1]).max().clamp_min(torch.finfo(torch.float64).tiny))
        # The first row strictly after each time of the grid.
        row = torch.searchsorted(series.times.contiguous(), clock + slack, right=True)
        active = row <= ends
        row = torch.minimum(row, ends)
        gap = (series.times.gather(1, row) - clock).clamp_min(0.0).to(like)[:, :, None]
        where, held = row.to(like.device)[:, :, None], active.to(like)[:, :, None]
        contexts = self.encoder(series)
        context = contexts.gather(1, where.expand(-1, -1, contexts.shape[2]))
        told = self.table(torch.cat([context, gap, (gap + 1e-3).log()], dim=2))
        aim, raw, features = told.split([self.latent, self.latent, told.shape[2] - 2 * self.latent], dim=2)
        # As near to its aim as observations tell, in units of time.
        width = self.log_width.exp() * (2 * self.log_noise).exp().mean()
        narrowing = held * torch.sigmoid(raw + 2.0) / (gap + width)
        step = torch.cat([clock.diff(dim=1), torch.zeros_like(clock[:, :1])], dim=1).to(like)[:, :, None]
        parts = (clock.to(like)[:, :, None], step, narrowing, aim, features, held)
        return [StepPart(*each) for each in zip(*(p.repeat(count, 1, 1).unbind(1) for p in parts), strict=True)]

    def steer(self, z: Tensor, g: Tensor, part: StepPart) -> tuple[Tensor, Tensor]:
        """Return the control u and the share r of the variance that a step keeps, ``(B, h)`` each."""
        free = self.extra(softplus(self.state(z) + part.context)) * part.active
        u = part.narrowing * (part.aim - z) / g.clamp_min(1e-3) + free
        return u, 1 - part.narrowing * part.step

    def paths(
        self, series: Series, grid: Tensor, *, seed: int, n_samples: int = 1, gradient: Gradient = "none"
    ) -> tuple[Tensor, Tensor]:
        """Return paths given series ``(S, B, M, h)``, and the divergence each has spent ``(S, B)``."""
        if gradient == "none" and torch.is_grad_enabled():
            with torch.no_grad():
                return self.paths(series, grid, seed=seed, n_samples=n_samples)
        mean, log_deviation = (part.repeat(n_samples, 1) for part in self.start(series))
        noise = torch.randn(mean.shape, generator=torch_generator(seed, "start"), dtype=mean.dtype).to(mean)
        begin = torch.cat([mean + log_deviation.exp() * noise, torch.zeros_like(mean[:, :1])], dim=1)
        if gradient == "adjoint":
            found = self._adjoint_paths(self.plan(series, grid, n_samples), begin, seed)
        else:
            found = sample(
                _Steps(self, series, grid, n_samples), begin, torch.arange(grid.shape[-1], dtype=torch.float64),
                solver="euler_maruyama", substeps=1, seed=derive_seed(seed, "path"), gradient=gradient,
            ).values  # fmt: skip
        found = found.reshape(n_samples, len(series), *found.shape[1:])
        return found[..., :-1], found[:, :, -1, -1]

    def _adjoint_paths(self, parts: list[StepPart], begin: Tensor, seed: int) -> Tensor:
        """Return paths ``(B, M, h + 1)`` whose gradient goes back by torchsde's adjoint, from each step's end."""
        found = [begin]
        for k, part in enumerate(parts[:-1]):
            # One step of one equation, so that the way back has the coefficients of the way forth.
            path = sample_with_torchsde(
                _OneStep(self, part), found[-1], [0.0, 1.0], method="euler", step=1.0, levy_area="none",
                seed=derive_seed(seed, "path", k), gradient="adjoint",
            )  # fmt: skip
            found.append(path.values[:, -1])
        return torch.stack(found, dim=1)

    def bound(
        self,
        series: Series,
        grid: Tensor,
        places: Tensor,
        *,
        seed: int,
        n_samples: int = 1,
        gradient: Gradient = "none",
    ) -> EvidenceBound:
        """Return the bound of the evidence of series.

        Parameters
        ----------
        series
            In the units of the grid.
        grid, places
            Of :func:`~gendyn.sde.step_times` with the series' own times as wanted ones.
        seed
            Of the noise.
        n_samples
            Noise paths ``S`` of each series.
        gradient
            Of :func:`gendyn.sample`; or ``"adjoint"``, that of :func:`gendyn.sampling.sample_with_torchsde`, on other
            paths for the same seed.
        """
        z, spent = self.paths(series, grid, seed=seed, n_samples=n_samples, gradient=gradient)
        at = places.to(z.device)[None, :, :, None].expand(n_samples, -1, -1, z.shape[3])
        error = (series.values.nan_to_num() - self.decoder(z.gather(2, at))) / self.log_noise.exp()
        density = -0.5 * error.square() - self.log_noise - 0.5 * math.log(2 * math.pi)
        rows = torch.arange(places.shape[1], device=z.device) < series.lengths.to(z.device)[:, None]
        told = torch.where(series.seen & rows[:, :, None], density, 0.0).sum((2, 3))
        mean, log_deviation = self.start(series)
        ratio = 2 * (log_deviation - self.start_log_deviation)
        far = ((mean - self.start_mean) / self.start_log_deviation.exp()).square()
        return EvidenceBound(told, spent, 0.5 * (ratio.exp() + far - 1 - ratio).sum(1))
