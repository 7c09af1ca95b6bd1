r"""The linear process with constant coefficients: its transitions, its likelihood and its exact step, without any grid.

.. math:: dX = (A X + b)\, dt + S\, dW

Over a time :math:`h` the transition is Gaussian,

.. math::

    X_{t+h} \mid X_t = x \;\sim\; \mathcal N(F_h x + c_h,\; C_h), \qquad
    F_h = e^{A h}, \quad
    c_h = \int_0^h F_s b\, ds, \quad
    C_h = \int_0^h F_s S S^\top F_s^\top ds,

and all three are blocks of one matrix exponential (Van Loan 1978), for any :math:`A`, singular or not:

.. math::

    \exp\left( h \begin{pmatrix} A & S S^\top & b \\ 0 & -A^\top & 0 \\ 0 & 0 & 0 \end{pmatrix} \right)
    = \begin{pmatrix} F_h & C_h F_h^{-\top} & c_h \\ 0 & F_h^{-\top} & 0 \\ 0 & 0 & 1 \end{pmatrix}.

It is taken at a short time and doubled, :math:`F_{2s} = F_s^2`, :math:`c_{2s} = c_s + F_s c_s`,
:math:`C_{2s} = C_s + F_s C_s F_s^\top`: the block :math:`F_h^{-\top}` grows without bound and would drown the others
at long times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.linalg import solve_continuous_lyapunov
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import ArrayLike, as_tensor, check_finite
from gendyn.sampling.process import Calculus, NoiseType, Process

__all__ = ["ExactLinear", "LinearProcess", "Transition", "linear_transitions", "triangular_root"]

_CACHED = 1024
"""Transitions that a process remembers; a grid of equal steps needs one, an irregular one a few hundred."""

_SINGULAR = 1e-13
"""A pivot of the Cholesky factor below this part of its variance is rounding error."""


@dataclass(frozen=True, eq=False)
class Transition:
    r"""A Gaussian transition :math:`x' \sim \mathcal N(F x + c, C)`, float64.

    Attributes
    ----------
    matrix
        :math:`F`, ``(d, d)``, or ``(B, d, d)`` where every row has its own.
    shift
        :math:`c`, ``(d,)`` or ``(B, d)``.
    covariance
        :math:`C`, ``(d, d)`` or ``(B, d, d)``.

    Examples
    --------
    >>> transition = LinearProcess([[0.0]], [1.0], [[2.0]]).transition(0.5)
    >>> transition.matrix.item(), transition.shift.item(), transition.covariance.item()
    (1.0, 0.5, 2.0)
    """

    matrix: Tensor
    shift: Tensor
    covariance: Tensor

    @cached_property
    def factor(self) -> Tensor:
        r"""The lower triangular :math:`L` with :math:`L L^\top = C`, shape of ``covariance``; `C` may be singular."""
        return triangular_root(self.covariance)

    def mean(self, x: Tensor) -> Tensor:
        r"""Return :math:`F x + c` for rows of ``x (B, d)``, in the type of ``x``."""
        return matrix_product(self.matrix.to(x), x) + self.shift.to(x)


class LinearProcess:
    r"""The linear process :math:`dX = (A X + b)\,dt + S\,dW` with constant coefficients.

    A process like any other for :func:`gendyn.sampling.sample`, with everything about it in closed form besides.

    Parameters
    ----------
    rate
        :math:`A`, ``(d, d)``, per time unit. Any matrix: zero for Brownian motion, negative eigenvalues for return.
    offset
        :math:`b`, ``(d,)``, state units per time unit.
    volatility
        :math:`S`, ``(d, m)``, state units per square root of time. The coefficients are constants: they are kept in
        float64 and carry no graph.

    Raises
    ------
    ValueError
        If shapes disagree or an entry is not finite.

    References
    ----------
    C. F. Van Loan, *Computing integrals involving the matrix exponential*, IEEE Trans. Automatic Control 23 (1978).

    Examples
    --------
    >>> process = LinearProcess([[-1.0]], [2.0], [[2.0**0.5]])
    >>> mean, covariance = process.stationary()
    >>> round(mean.item(), 6), round(covariance.item(), 6)
    (2.0, 1.0)
    >>> round(process.mean(1.0, torch.zeros(1, 1)).item(), 4)
    1.2642
    """

    noise_type: NoiseType = "additive"
    calculus: Calculus = "ito"

    def __init__(self, rate: ArrayLike, offset: ArrayLike, volatility: ArrayLike) -> None:
        self.rate = _coefficient(rate, "rate", 2)
        self.offset = _coefficient(offset, "offset", 1)
        self.volatility = _coefficient(volatility, "volatility", 2)
        d = len(self.rate)
        if self.rate.shape != (d, d) or self.offset.shape != (d,) or len(self.volatility) != d:
            raise ValueError(
                "rate, offset and volatility must have shapes (d, d), (d,) and (d, m); got "
                f"{tuple(self.rate.shape)}, {tuple(self.offset.shape)} and {tuple(self.volatility.shape)}"
            )
        self.dim = d
        self.noise_dim = int(self.volatility.shape[1])
        self._known: dict[float, Transition] = {}

    def __repr__(self) -> str:
        return f"LinearProcess({self.dim} features, {self.noise_dim} Brownian motions)"

    @property
    def linear(self) -> LinearProcess:
        """The process itself: what :class:`ExactLinear` asks a process for."""
        return self

    @cached_property
    def time_step(self) -> float:
        """One fiftieth of the fastest time scale; without bound where the rate is zero and any Euler step exact."""
        fastest = float(torch.linalg.matrix_norm(self.rate, 2))
        return 0.02 / fastest if fastest else math.inf

    @cached_property
    def noise_covariance(self) -> Tensor:
        r""":math:`S S^\top`, ``(d, d)``, float64: the covariance that the noise adds per time unit."""
        return self.volatility @ self.volatility.T

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return :math:`A x + b`, shape ``(B, d)``."""
        return torch.addmm(self.offset.to(x), x, self.rate.to(x).T)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return :math:`S`, shape ``(d, m)``."""
        return self.volatility.to(x)

    def transition(self, h: float) -> Transition:
        r"""Return the transition over a time ``h``: :math:`F_h`, :math:`c_h`, :math:`C_h`, float64, kept per ``h``.

        Raises
        ------
        ValueError
            If ``h`` is not a finite time of at least 0.

        Examples
        --------
        >>> round(LinearProcess([[-1.0]], [0.0], [[1.0]]).transition(1.0).matrix.item(), 6)
        0.367879
        """
        h = float(h)
        if h not in self._known:
            found = self.transitions(torch.tensor([h], dtype=torch.float64))
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[h] = Transition(found.matrix[0], found.shift[0], found.covariance[0])
        return self._known[h]

    def transitions(self, times: Tensor) -> Transition:
        """Return the transitions over several times ``(K,)`` at once: ``(K, d, d)``, ``(K, d)``, ``(K, d, d)``.

        Raises
        ------
        ValueError
            If a time is not finite or is negative.
        """
        return linear_transitions(self.rate, self.offset, self.noise_covariance, times)

    def step(self, x: Tensor, h: float | Tensor, normals: Tensor) -> Tensor:
        r"""Return :math:`F_h x + c_h + L_h z`, the exact step, with :math:`L_h` the Cholesky factor of :math:`C_h`.

        Parameters
        ----------
        x
            States ``(B, d)``.
        h
            Length of the step, or ``(B, 1)`` lengths of each row's own.
        normals
            Standard normals :math:`z`, ``(B, d)``, whatever the number of Brownian motions.

        Returns
        -------
        Tensor
            The states after the step, ``(B, d)``, in the type of ``x``.

        Raises
        ------
        ValueError
            If ``normals`` has another shape than ``x``, or a length is negative.

        Examples
        --------
        >>> LinearProcess([[0.0]], [1.0], [[2.0]]).step(torch.zeros(1, 1), 0.25, torch.ones(1, 1)).item()
        1.25
        """
        if normals.shape != x.shape:
            raise ValueError(f"normals must have the shape of the states, {tuple(x.shape)}; got {tuple(normals.shape)}")
        transition = self._over(h)
        return transition.mean(x) + matrix_product(transition.factor.to(x), normals)

    def mean(self, t: float, x0: Tensor) -> Tensor:
        r"""Return :math:`E[X_t \mid X_0 = x_0]` for rows of ``x0 (B, d)``, in their type."""
        return self.transition(t).mean(x0)

    def covariance(self, t: float) -> Tensor:
        r"""Return :math:`C_t`, the covariance given the start, ``(d, d)``, float64."""
        return self.transition(t).covariance

    def log_density(self, h: float, x0: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\log p(X_h = x \mid X_0 = x_0)` for rows of ``x0`` and ``x (B, d)``: ``(B,)``, float64.

        Raises
        ------
        ValueError
            If :math:`C_h` is singular (``h = 0``, or a direction that no noise reaches).

        Examples
        --------
        >>> brownian = LinearProcess([[0.0]], [0.0], [[1.0]])
        >>> round(brownian.log_density(1.0, torch.zeros(1, 1), torch.zeros(1, 1)).item(), 6)
        -0.918939
        """
        transition = self.transition(h)
        whitening, constant = _whitening(transition.covariance, f"h = {h:g}")
        gap = x.to(torch.float64) - transition.mean(x0.to(torch.float64))
        return -0.5 * matrix_product(whitening.to(x.device), gap).square().sum(1) + constant.to(x.device)

    def stationary(self) -> tuple[Tensor, Tensor]:
        r"""Return mean ``(d,)`` and covariance ``(d, d)`` of the stationary law, float64.

        The mean solves :math:`A \mu + b = 0`, the covariance
        :math:`A C + C A^\top + S S^\top = 0`.

        Raises
        ------
        ValueError
            If an eigenvalue of the rate has no negative real part: there is no stationary law.
        """
        slowest = float(torch.linalg.eigvals(self.rate).real.max())
        if slowest >= 0:
            raise ValueError(
                "a stationary law needs a rate whose eigenvalues all have negative real part; "
                f"the largest is {slowest:.6g}"
            )
        covariance = solve_continuous_lyapunov(self.rate.numpy(), -self.noise_covariance.numpy())
        mean = torch.linalg.solve(self.rate, -self.offset)
        return mean, torch.from_numpy((covariance + covariance.T) / 2)

    def log_likelihood(self, paths: Paths) -> Tensor:
        r"""Return :math:`\sum_k \log p(x_{k+1} \mid x_k)` of fully observed paths, exact at any times.

        Parameters
        ----------
        paths
            Values ``(n, T, d)``; times shared or of each path's own, however irregular. The law of the first value is
            not part of it.

        Returns
        -------
        Tensor
            ``(n,)``, float64; a path of one time has 0.

        Raises
        ------
        ValueError
            If the features do not fit, values are missing, times fall, or a transition has no density.

        Examples
        --------
        >>> paths = Paths([0.0, 0.1, 1.0], torch.zeros(2, 3, 1))
        >>> [round(v, 4) for v in LinearProcess([[-1.0]], [0.0], [[1.0]]).log_likelihood(paths).tolist()]
        [-0.2005, -0.2005]
        """
        check_observed(paths, self.dim)
        x = paths.values.to(torch.float64)
        result = x.new_zeros(len(x))
        gaps = paths.times.diff(dim=-1)
        if not bool((gaps > 0).any()):
            return result
        # Padding repeats the last time; any true gap does for it, the term is not counted.
        lengths, which = torch.unique(torch.where(gaps > 0, gaps, gaps.max()), return_inverse=True)
        found = self.transitions(lengths)
        whitening, constant = _whitening(found.covariance, f"gaps from {lengths[0]:g}")
        matrix, shift = found.matrix.to(x.device), found.shift.to(x.device)
        whitening, constant, which = whitening.to(x.device), constant.to(x.device), which.to(x.device)
        for k in range(gaps.shape[-1]):
            inside = step_inside(paths, k)
            before, after = (torch.where(inside[:, None], v, 0.0) for v in (x[:, k], x[:, k + 1]))
            j = which[..., k]
            gap = after - matrix_product(matrix[j], before) - shift[j]
            term = constant[j] - 0.5 * matrix_product(whitening[j], gap).square().sum(1)
            result = result + torch.where(inside, term, 0.0)
        return result

    def _over(self, h: float | Tensor) -> Transition:
        """Return the transition over a time, or over the time of each row ``(B, 1)``."""
        if not isinstance(h, Tensor) or h.ndim == 0:
            return self.transition(float(h))
        lengths, which = torch.unique(h.reshape(-1), return_inverse=True)
        # Torch exponentiates a single matrix by other code, which rounds otherwise: a row must not see its batch.
        found = self.transitions(lengths if len(lengths) > 1 else lengths.expand(2))
        which = which.to(found.matrix.device)
        return Transition(found.matrix[which], found.shift[which], found.covariance[which])


class ExactLinear:
    r"""The exact step of a linear process: no error, whatever its length.

    The increments :math:`\Delta W \sim \mathcal N(0, h I)` are read as normals :math:`z = \Delta W / \sqrt h` and
    mapped through the Cholesky factor of the transition's covariance, so the law is exact while the path is not driven
    by those increments one by one; they are as many as the features, whatever the process's own number. For any process
    whose attribute ``linear`` is a :class:`LinearProcess`. Give :func:`gendyn.sampling.sample` ``substeps=1``: more
    steps change nothing in law.

    Examples
    --------
    >>> from gendyn.sampling import sample
    >>> process = LinearProcess([[-1.0]], [0.0], [[1.0]])
    >>> paths = sample(process, torch.zeros(4000, 1), [0.0, 5.0], solver=ExactLinear(), substeps=1)
    >>> paths.values[:, 1].var().item()
    0.5...
    """

    name = "exact_linear"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("additive",)
    order = math.inf
    weak_order = math.inf
    drift_evaluations = 0
    diffusion_evaluations = 0
    needs_area = False
    use = "linear processes (Ornstein-Uhlenbeck and its kin): exact in law for every step"

    def columns(self, process: Process) -> int:
        """Return how many normals a step takes: one for each feature."""
        return process.dim

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step.

        Raises
        ------
        TypeError
            If the process has no linear form.
        """
        linear = getattr(process, "linear", None)
        if not isinstance(linear, LinearProcess):
            raise TypeError(
                f"solver {self.name!r} needs a LinearProcess, or a process whose attribute linear is one; got "
                f"{type(process).__name__}: use 'euler_maruyama'"
            )
        if dw is None:
            return linear._over(h).mean(x)
        root = h**0.5 if isinstance(h, float) else h.sqrt()
        # A step of length zero has increments of zero, and no normals are wanted of it.
        normals = dw / root if not isinstance(root, Tensor) else dw / torch.where(root > 0, root, 1.0)
        return linear.step(x, h, normals)


def linear_transitions(rate: Tensor, offset: Tensor, noise_covariance: Tensor, times: Tensor) -> Transition:
    r"""Return the transitions of :math:`dX = (A X + b)\,dt + S\,dW` over several times, differentiable in A, b, S S^T.

    Parameters
    ----------
    rate, offset, noise_covariance
        :math:`A` ``(d, d)``, :math:`b` ``(d,)`` and :math:`S S^\top` ``(d, d)``, float64, on the CPU.
    times
        ``(K,)``, finite, at least 0.

    Returns
    -------
    Transition
        ``(K, d, d)``, ``(K, d)``, ``(K, d, d)``.

    Raises
    ------
    ValueError
        If a time is not finite or is negative.
    """
    h = times.detach().to("cpu", torch.float64)
    if h.ndim != 1 or not bool((torch.isfinite(h) & (h >= 0)).all()):
        raise ValueError(f"a transition needs finite times of at least 0; got {times.tolist()}")
    d = len(rate)
    # Halve each time until the rate times it is below 1.
    speed = float(rate.detach().abs().sum(1).max())
    halvings = torch.log2((speed * h).clamp_min(1.0)).ceil()
    short = h / 2.0**halvings
    # The exponential is linear in S S^T and b; scaled to 1, they do not decide its accuracy.
    noise_scale, offset_scale = (float(v.detach().abs().max()) or 1.0 for v in (noise_covariance, offset))
    block = torch.zeros(2 * d + 1, 2 * d + 1, dtype=torch.float64)
    block[:d, :d], block[d : 2 * d, d : 2 * d] = rate, -rate.T
    block[:d, d : 2 * d], block[:d, -1] = noise_covariance / noise_scale, offset / offset_scale
    exponential = torch.linalg.matrix_exp(block * short[:, None, None])
    matrix = exponential[:, :d, :d]
    covariance = noise_scale * exponential[:, :d, d : 2 * d] @ matrix.mT
    shift = offset_scale * exponential[:, :d, -1]
    for k in range(int(halvings.max())):
        more = halvings > k
        shift = torch.where(more[:, None], shift + matrix_product(matrix, shift), shift)
        doubled = covariance + matrix @ covariance @ matrix.mT
        covariance = torch.where(more[:, None, None], doubled, covariance)
        matrix = torch.where(more[:, None, None], matrix @ matrix, matrix)
    return Transition(matrix, shift, (covariance + covariance.mT) / 2)


def triangular_root(covariance: Tensor) -> Tensor:
    r"""Return the lower triangular :math:`L` with :math:`L L^\top = C` of ``(..., d, d)``; `C` may be singular."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not bool(failed.any()):
        return factor
    # A singular covariance has a triangular root all the same: R^T of the QR decomposition of any other root.
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0.0).sqrt()[..., None, :]
    triangle = torch.linalg.qr(root.mT, mode="r").R.mT
    signs = torch.where(triangle.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(triangle)
    return torch.where((failed == 0)[..., None, None], factor, triangle * signs[..., None, :])


def matrix_product(matrix: Tensor, x: Tensor) -> Tensor:
    """Return the matrix times each row of ``x (B, d)``; the matrix is ``(e, d)``, or each row's own, ``(B, e, d)``."""
    return x @ matrix.mT if matrix.ndim == 2 else (matrix @ x[:, :, None])[:, :, 0]


def check_observed(paths: Paths, dim: int) -> None:
    """Say what keeps a path's likelihood from being a product of transitions.

    Raises
    ------
    TypeError
        If the values are discrete states.
    ValueError
        If the features do not fit, values are missing within a path, or times fall.
    """
    if not paths.values.is_floating_point():
        raise TypeError(f"a likelihood of a diffusion needs real values; got {paths.dtype} states")
    if paths.dim != dim:
        raise ValueError(f"the process has {dim} features, but the paths have {paths.dim}")
    if paths.mask is not None:
        seen = paths.mask.all(-1)
        if paths.lengths is not None:
            seen |= torch.arange(paths.n_times, device=paths.device) >= paths.lengths[:, None]
        if not bool(seen.all()):
            raise ValueError(
                f"every value must be observed, but {int((~seen).any(1).sum())} of {len(paths)} paths miss some: "
                "select paths without gaps, or leave out the times that were not observed"
            )
    if paths.shared_times and paths.n_times > 1 and float(paths.times[1] - paths.times[0]) < 0:
        raise ValueError("the times of these paths fall; a likelihood needs times that increase: flip the paths")


def step_inside(paths: Paths, k: int) -> Tensor:
    """Return which paths have a time after their k-th, ``(n,)``."""
    if paths.lengths is None:
        return torch.ones(len(paths), dtype=torch.bool, device=paths.device)
    return paths.lengths > k + 1


def _coefficient(value: ArrayLike, name: str, axes: int) -> Tensor:
    array = as_tensor(value, name).detach().to("cpu", torch.float64)
    if array.ndim != axes or 0 in array.shape:
        shape = {"rate": "(d, d)", "offset": "(d,)", "volatility": "(d, m)"}[name]
        raise ValueError(f"{name} must have shape {shape}; got {tuple(array.shape)}")
    check_finite(array, name)
    return array


def _whitening(covariance: Tensor, when: str) -> tuple[Tensor, Tensor]:
    r"""Return :math:`L^{-1}` and the constant of the log density, of one covariance or of a batch."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    pivots = torch.diagonal(factor, dim1=-2, dim2=-1)
    variances = torch.diagonal(covariance, dim1=-2, dim2=-1)
    if bool(failed.any()) or not bool((pivots.square() > _SINGULAR * variances).all()):
        raise ValueError(
            f"the transition over {when} has no density: its covariance is singular; a density needs h > 0 and noise "
            "that reaches every feature"
        )
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    whitening = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    return whitening, -pivots.log().sum(-1) - 0.5 * covariance.shape[-1] * math.log(2 * math.pi)
