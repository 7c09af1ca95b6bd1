"""What a fitted jump process would tell its doctor: which rates are known, from how much, and what would help."""

from __future__ import annotations

import math
from typing import Any

import torch

from gendyn.sampling.jumps.rate_quantities import relaxation_times, slowest_period

__all__ = ["jump_letter"]


def jump_letter(model: Any) -> str:
    """Return the letter of a fitted :class:`~gendyn.mjp.MarkovJumpModel`."""
    process, size = model.process_, len(model.rate_matrix_)
    names = list(process.states or map(str, range(size)))
    low, high = model.interval(0.9)
    jumps, rates = model.jumps_, model.rate_matrix_
    lines = [
        f"{size} states, {float(jumps.sum()):.4g} expected jumps in {float(model.exposure_.sum()):.4g} units of time; "
        f"log-likelihood {model.log_likelihood_:.6g}.",
        f"A label is wrong with probability {model.noise_:.3g}." if model.noise_ else "Labels are taken to be right.",
        "",
        "Rates, with what 90 % intervals allow, and the jumps they rest on:",
    ]
    for i in range(size):
        for j in range(size):
            if i == j or not (rates[i, j] > 0 or high[i, j] > 0):
                continue
            firm = "" if jumps[i, j] >= 5 else "  (few jumps: mostly what was expected before)"
            lines.append(
                f"  {names[i]} -> {names[j]}: {float(rates[i, j]):.4g} [{float(low[i, j]):.3g}, "
                f"{float(high[i, j]):.3g}], {float(jumps[i, j]):.3g} jumps{firm}"
            )
    lost = [names[i] for i in range(size) if not bool(model.identifiable_[i])]
    if lost:
        lines += ["", f"How {', '.join(lost)} is left cannot be told: too little time was spent there."]
    if not model.embeddable_:
        lines += [
            "",
            "No jump process has the transitions that were seen: these rates are bounds of what looks resolve.",
        ]
    times = relaxation_times(process)
    if len(times):
        period = slowest_period(process)
        turns = f", in turns of {period:.4g}: a cycle is driven one way" if math.isfinite(period) else ""
        lines += ["", f"Slowest relaxation time {float(times[0]):.4g}{turns}."]
    lines += ["", _advice(model, names)]
    return "\n".join(lines)


def _advice(model: Any, names: list[str]) -> str:
    """Say what data would help most."""
    exposure = model.exposure_
    scarce = int(exposure.argmin())
    jumps = float(model.jumps_.sum())
    if jumps < 20:
        return "Most would help: more paths, or longer ones; there are hardly any jumps."
    spread = float(torch.as_tensor(model.jumps_[model.jumps_ > 0]).median())
    if float(exposure[scarce]) < 0.1 * float(exposure.mean()):
        return f"Most would help: paths that begin in {names[scarce]}, where the least time was spent."
    if model.noise_ > 0.05:
        return "Most would help: labels that are wrong less often, or two looks close together."
    return (
        f"Half of the rates rest on fewer than {spread:.3g} jumps; their errors fall with the root of the number of "
        "paths."
    )
