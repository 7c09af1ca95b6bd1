r"""Drift and diffusion of the stable neural SDEs.

With the control :math:`X`, time waves :math:`\tau = (\sin t, \cos t)` and a mix of state and control

.. math:: e = E\,[\,P(\tau, z),\; C(X)\,], \qquad u = \text{net}(\operatorname{relu}(e)),

all of E, P and C linear, the drift is

==========================  ==================================  =====================================
parametrisation             Langevin-type and linear noise      geometric
==========================  ==================================  =====================================
``bounded``, as published   :math:`\tanh(u)`                    :math:`\tanh(u \tanh z)`
``exact``                   :math:`-A z + \kappa \tanh(u)`      :math:`z\,\kappa \tanh(u)`
==========================  ==================================  =====================================

with :math:`A, \kappa > 0`, and the diffusion one of :mod:`gendyn.sde.noise_level`. As linear maps in a row are one,
:math:`e = M z + e_0(t)`, and :math:`e_0` and the noise's level are computed for all times in one product before the
first step is taken.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from gendyn.nn import seeded_linear
from gendyn.randomness import Seed, torch_generator
from gendyn.sde.noise_level import NoiseLevel, time_waves
from gendyn.sde.stable_design import StableDesign

__all__ = ["Mixing", "StabilityBounds", "StableField"]

_STATIC_WIDTH = 256


class Mixing(NamedTuple):
    """The mix of state and control as one linear map: ``e = matrix z + weight [tau, X] + bias``."""

    matrix: Tensor
    weight: Tensor
    bias: Tensor


class StabilityBounds(NamedTuple):
    r"""What holds of an exact Langevin-type or linear-noise drift :math:`\gamma` for all states and controls.

    Attributes
    ----------
    a, b
        :math:`\langle \gamma(z), z \rangle \le -a \lvert z \rvert^2 + b`.
    monotonicity
        m with :math:`\langle \gamma(x) - \gamma(y), x - y \rangle \le -m \lvert x - y \rvert^2`; without a positive one
        nothing is said about contraction.
    lipschitz
        Lipschitz constant in the state.
    control_lipschitz
        Lipschitz constant in the control.
    """

    a: float
    b: float
    monotonicity: float
    lipschitz: float
    control_lipschitz: float


class StableField(nn.Module):
    """Networks of a stable SDE.

    Parameters
    ----------
    control_dim
        Number of channels of the control.
    hidden
        Number of features ``h`` of the state, and width of all networks.
    layers
        Hidden layers of the drift.
    design
        Which equation, see :class:`~gendyn.sde.StableDesign`.
    static_dim
        Number of static covariates.
    seed
        Of the initial weights.

    Raises
    ------
    ValueError
        If a width is below 1.

    Examples
    --------
    >>> field = StableField(3, hidden=8)
    >>> z = field.begin(torch.zeros(5, 3))
    >>> offset, level = field.table(field.mixing(), torch.zeros(5, 1), torch.zeros(5, 3))
    >>> field.drift(field.mixing().matrix, offset, z).shape, field.noise(level, z).shape
    (torch.Size([5, 8]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        control_dim: int,
        hidden: int = 64,
        layers: int = 2,
        *,
        design: StableDesign | None = None,
        static_dim: int = 0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if min(control_dim, hidden, layers) < 1 or static_dim < 0:
            raise ValueError(
                f"control_dim, hidden and layers must be at least 1; got {control_dim}, {hidden} and {layers}"
            )
        self.control_dim, self.hidden, self.static_dim = control_dim, hidden, static_dim
        self.design = design = StableDesign() if design is None else design
        generator = torch_generator(seed, "stable field")
        self.start = seeded_linear(control_dim, hidden, generator)
        if static_dim:
            self.start_static = nn.Sequential(
                seeded_linear(static_dim, _STATIC_WIDTH, generator),
                nn.ReLU(),
                seeded_linear(_STATIC_WIDTH, hidden, generator),
            )
        waves = 2 if design.clock else 0
        self.waves = waves
        if design.state or waves:
            self.project = seeded_linear(waves + (hidden if design.state else 0), hidden, generator)
        if design.control:
            self.control = seeded_linear(control_dim, hidden, generator)
        parts = int(design.state or waves > 0) + int(design.control)
        self.mix = seeded_linear(parts * hidden, hidden, generator)
        self.net = nn.ModuleList(seeded_linear(hidden, hidden, generator) for _ in range(layers))
        self.noise = NoiseLevel(design.noise, hidden, bounded=design.bounded, generator=generator)
        if not design.bounded:
            self.log_force = nn.Parameter(torch.zeros(()))
            if not design.geometric:
                # A softplus of this is 1.
                self.raw_pull = nn.Parameter(torch.full((hidden,), math.log(math.e - 1)))

    def begin(self, x: Tensor, static: Tensor | None = None) -> Tensor:
        """Return the state at the first time ``(B, h)``, of the control there ``(B, d_x)`` and static covariates."""
        z: Tensor = self.start(x)
        return z if static is None else z + self.start_static(static)

    def mixing(self) -> Mixing:
        """Return the mix of state and control as one linear map."""
        own, of_control = self.mix.weight, self.mix.weight[:, -self.hidden :]
        bias: Tensor = self.mix.bias
        matrix: Tensor = own.new_zeros(self.hidden, self.hidden)
        weights = []
        if self.design.state or self.waves:
            first = own[:, : self.hidden]
            combined = first @ self.project.weight
            bias = bias + first @ self.project.bias
            if self.waves:
                weights.append(combined[:, : self.waves])
            if self.design.state:
                matrix = combined[:, self.waves :]
        if self.design.control:
            weights.append(of_control @ self.control.weight)
            bias = bias + of_control @ self.control.bias
        weight = torch.cat(weights, dim=1) if weights else own.new_zeros(self.hidden, 0)
        return Mixing(matrix, weight, bias)

    def table(self, mixing: Mixing, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what does not depend on the state: offset of the mix ``(..., h)``, and the part of the noise.

        Parameters
        ----------
        mixing
            Of :meth:`mixing`.
        t
            Times, ``(..., 1)`` or of fewer rows where they are shared.
        x
            Controls ``(..., d_x)``.
        """
        told = []
        if self.waves:
            waves = time_waves(t)
            told.append(waves.expand((*x.shape[:-1], 2)))
        if self.design.control:
            told.append(x)
        if told:
            offset = linear(torch.cat(told, dim=-1), mixing.weight, mixing.bias)
        else:
            offset = mixing.bias.expand((*x.shape[:-1], self.hidden))
        return offset, self.noise.table(t)

    def drift(self, matrix: Tensor, offset: Tensor, z: Tensor) -> Tensor:
        """Return the drift ``(B, h)``."""
        u = self._net(matrix, offset, z)
        if self.design.bounded:
            return torch.tanh(u * torch.tanh(z)) if self.design.geometric else torch.tanh(u)
        force = self.log_force.exp() * torch.tanh(u)
        return force * z if self.design.geometric else force - softplus(self.raw_pull) * z

    def relative_drift(self, matrix: Tensor, offset: Tensor, z: Tensor) -> Tensor:
        """Return the drift divided by the state, of an exact geometric equation."""
        return self.log_force.exp() * torch.tanh(self._net(matrix, offset, z))

    def _net(self, matrix: Tensor, offset: Tensor, z: Tensor) -> Tensor:
        u = torch.addmm(offset, z, matrix.T) if self.design.state else offset
        for layer in self.net:
            u = layer(torch.relu(u))
        return u

    @torch.no_grad()
    def bounds(self) -> StabilityBounds:
        """Return what the weights guarantee of an exact drift that is not geometric.

        Raises
        ------
        ValueError
            If the parametrisation is bounded or geometric, of which none of this is claimed.
        """
        if self.design.bounded or self.design.geometric:
            raise ValueError("bounds hold of the exact Langevin-type and linear-noise drifts; this design has others")
        pull, force = softplus(self.raw_pull), float(self.log_force.exp())
        mixing = self.mixing()
        slope = force * math.prod(float(torch.linalg.matrix_norm(layer.weight, 2)) for layer in self.net)
        of_state = slope * float(torch.linalg.matrix_norm(mixing.matrix, 2))
        of_control = 0.0
        if self.design.control:
            of_control = slope * float(torch.linalg.matrix_norm(mixing.weight[:, self.waves :], 2))
        least, most = float(pull.min()), float(pull.max())
        return StabilityBounds(
            least / 2, self.hidden * force**2 / (2 * least), least - of_state, most + of_state, of_control
        )
