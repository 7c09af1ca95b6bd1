r"""The Euler method on the logarithm, for processes that stay positive (or negative).

With relative coefficients :math:`\mu = f(t, X)/X` and :math:`\nu = g(t, X)/X`,

.. math:: X' = X \exp\bigl((\mu - \tfrac12 \nu^2) h + \nu\, \Delta W\bigr) \quad\text{(Ito)},

without :math:`\tfrac12 \nu^2` in Stratonovich calculus. Never changes the sign of a state; exact for geometric
Brownian motion. Strong order 1/2, and 1 where :math:`\nu` does not depend on the state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process

__all__ = ["LogEuler"]


class LogEuler:
    """The Euler step on the logarithm of each coordinate.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> geometric = SDE(lambda t, x: 0.1 * x, lambda t, x: 0.2 * x, dim=1)
    >>> x = LogEuler().step(geometric, torch.tensor(0.0), 1.0, torch.ones(1, 1), torch.zeros(1, 1))
    >>> round(x.log().item(), 6)
    0.08
    """

    name = "log_euler"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("none", "diagonal", "scalar")
    order = 0.5
    weak_order = 1.0
    drift_evaluations = 1
    diffusion_evaluations = 1
    needs_area = False
    use = "geometric processes: keeps the sign, exact for geometric Brownian motion"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        mu, nu = _relative(process, t, x, dw is not None)
        if nu is None or dw is None:
            return x * torch.exp(mu * h)
        if process.calculus == "ito":
            mu = mu - 0.5 * nu.square()
        return x * torch.exp(mu * h + nu * dw)


def _relative(process: Process, t: Tensor, x: Tensor, noisy: bool) -> tuple[Tensor, Tensor | None]:
    """Return drift and diffusion divided by the state; the process's own where it knows them without dividing."""
    given = getattr(process, "relative", None)
    if given is not None:
        mu, nu = given(t, x)
        return mu, nu if noisy else None
    f = process.drift(t, x)
    mu = torch.where(x == 0, torch.zeros_like(x), f / x)
    if not noisy:
        return mu, None
    return mu, process.diffusion(t, x) / torch.where(x == 0, torch.ones_like(x), x)
