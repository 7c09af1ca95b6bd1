r"""What the pattern of observations itself says: how long ago, and how often.

For the mask :math:`m_{l} \in \{0, 1\}` of a channel at times :math:`t_0 < t_1 < \dots`,

.. math:: \delta_l = t_l - t_{\max\{j < l :\, m_j = 1\}}, \qquad c_l = \sum_{j \le l} m_j ,

the time since the last observation strictly before, and the count of observations so far (in medical records, where
sick patients are looked at more often, the intensity).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["observation_counts", "time_since_observation"]


def time_since_observation(times: Tensor, mask: Tensor) -> Tensor:
    """Return for each channel the time since its last observation strictly before, zero at the first time.

    Before the first observation it is the time since the start of the series.

    Parameters
    ----------
    times
        ``(L,)`` or ``(B, L)``.
    mask
        ``(B, L, D)``, true where observed.

    Returns
    -------
    Tensor
        ``(B, L, D)``, of the type of the times.

    Examples
    --------
    >>> mask = torch.tensor([1, 0, 0, 1, 1]).bool()[None, :, None]
    >>> time_since_observation(torch.arange(5.0), mask)[0, :, 0].tolist()
    [0.0, 1.0, 2.0, 3.0, 1.0]
    """
    clock = times.to(mask.device).expand(mask.shape[:2])
    place = torch.arange(mask.shape[1], device=mask.device)[:, None]
    latest = torch.where(mask, place, 0).cummax(1).values
    before = torch.cat([torch.zeros_like(latest[:, :1]), latest[:, :-1]], dim=1)
    wide = clock[:, :, None].expand(mask.shape)
    return wide - wide.gather(1, before)


def observation_counts(mask: Tensor) -> Tensor:
    """Return for each channel how often it was observed up to each time, ``(B, L, D)``.

    Examples
    --------
    >>> observation_counts(torch.tensor([[[True], [False], [True]]]))[0, :, 0].tolist()
    [1, 1, 2]
    """
    return mask.cumsum(1)
