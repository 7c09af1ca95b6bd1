"""Print ``docs/benchmarks.md`` and the README's table from stored rows, and the tables of solvers and metrics.

python benchmarks/document.py            # writes both
python benchmarks/document.py --check    # says whether they are up to date
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- eb-table -->", "<!-- end of eb-table -->"

IRREGULAR = {
    "basic-motions": "motions",
    "japanese-vowels": "speakers",
    "coffee": "beans of coffee",
    "gunpoint": "hands",
    "arrowhead": "arrowheads",
    "trace": "traces",
}
BRIDGES = {
    "repressilator200": "three genes in a ring, refined",
    "gom200": "currents of the Gulf of Mexico, refined",
    "sbirr_gom111": "drifters in a vortex, refined",
    "pbmc500": "blood cells",
    "hesc": "embryonic stem cells",
    "eb300": "embryoid bodies",
    "reprprotein200": "three genes of which proteins are not seen",
}
"""Sets of bridges whose pages differ by their title."""

PAGES = {
    "leave_one_out_eb_5": (
        "Embryoid bodies, 5 dimensions: a time held out",
        "python benchmarks/leave_one_out.py --data eb --dims 5 --bend 1 "
        "--json benchmarks/results/leave_one_out_eb_5.json",
        "Whitened principal components, exact W1 to all held-out cells, mean over the inner times 1, 2, 3. `published` "
        "is the protocol of the literature, `clean` ours (see [interpolants](interpolants.md)). Rows marked "
        "`literature` are quoted, not run. Run beside other work for a part of the time: wall seconds say nothing.",
    ),
    "leave_one_out_eb_5_growth": (
        "Embryoid bodies, 5 dimensions: cells that multiply and die",
        "python benchmarks/leave_one_out.py --data eb --dims 5 --protocol published --methods spline-ot "
        "--bend 1 --relaxations 3,6,12 --pool --seeds 3 --json benchmarks/results/leave_one_out_eb_5_growth.json",
        "Three seeds. The price of growth cannot be told from the training times; `pool of 4` pools no growth and the "
        "prices 3, 6 and 12 with equal mass, and has as many cells as one of them. Run beside other work: wall seconds "
        "say nothing.",
    ),
    "leave_one_out_eb_5_metric": (
        "Embryoid bodies, 5 dimensions: splines bent by a metric",
        "python benchmarks/leave_one_out.py --data eb --dims 5 --protocol published --methods spline-ot "
        "--bend 1 --metrics land:1:median:1 --bends spline-ot --seeds 3 "
        "--json benchmarks/results/leave_one_out_eb_5_metric.json",
        "Three seeds. Reach 1 and a regularisation at the median of the data let a metric bend little; with the "
        "published reach of .125 on straight lines the row is .826. Run beside other work: wall seconds say nothing.",
    ),
    "leave_one_out_eb_50": (
        "Embryoid bodies, 50 dimensions: a time held out",
        "python benchmarks/leave_one_out.py --data eb --dims 50 --scale global --protocol clean --no-select --bend 1 "
        "--json benchmarks/results/leave_one_out_eb_50.json",
        "In fifty dimensions most of W1 is sampling noise: read the skill. With `--scale global` distances are in "
        "units of the largest standard deviation, so that rows of the literature, in raw units, do not compare. Run "
        "beside other work: wall seconds say nothing.",
    ),
    "leave_one_out_emt": (
        "Epithelial-mesenchymal transition, 10 dimensions: a time held out",
        "python benchmarks/leave_one_out.py --data emt --bend 1 --json benchmarks/results/leave_one_out_emt.json",
        "Raw latent units, as the literature has it; holes at the times 1 and 2. Run beside other work: wall seconds "
        "say nothing.",
    ),
    "flow_matching_speed": (
        "Flow matching: speed",
        "python benchmarks/flow_matching_speed.py --json benchmarks/results/flow_matching_speed.json",
        "One thread, seconds of the processor, ours and torchcfm in turns; what counts are the ratios.",
    ),
    "flow_matching_2d": (
        "Flow matching in the plane, and bridges between Gaussians",
        "python benchmarks/flow_matching_2d.py --json benchmarks/results/flow_matching_2d.json",
        "Rows marked `literature` are quoted, not run (Tong et al. 2024). Low and high are the least and the largest "
        "of three seeds. The four larger sets are tested on 2000 points, those of the literature on 10,000: our three "
        "models hardly differ in W2 on three of them, with a floor of .39, .05 and .16, so that most of it is the "
        "sample and not the method. SF2M with exact plans has another process than the bridge, whatever it learns: "
        "`pairs alone` are Brownian bridges between its pairs, plans of 256 points, and have a mean KL of .009 in five "
        "dimensions. With the entropic plan, the default, it is at the floor there. Run beside other work; seconds are "
        "those of the processor. The part `pairs` was run by itself.",
    ),
    "checkerboard": (
        "Noise to a checkerboard",
        "python benchmarks/checkerboard.py --json benchmarks/results/checkerboard.json",
        "![Samples of two models for five strengths of noise](images/checkerboard.png)",
    ),
    "least_action": (
        "The interpolant of least action against the Schroedinger bridge",
        "python benchmarks/least_action.py --json benchmarks/results/least_action.json",
        "Relative errors, every seed by itself, on a busy machine. The action tells little where the start is nearly "
        "right (epsilon 0.5: 0.4 % for a = 1); the amplitude and the variance half-way do.",
    ),
    "mixture_fields": (
        "Learned fields against exact ones",
        "python benchmarks/mixture_fields.py --json benchmarks/results/mixture_fields.json",
        "",
    ),
    "letters": (
        "Letters that were never seen",
        "python benchmarks/letters.py --json benchmarks/results/letters.json",
        "",
    ),
    "resume": (
        "Fits: time, and kill -9",
        "python benchmarks/resume.py --json benchmarks/results/resume.json",
        "",
    ),
    "sampler_speed": (
        "The sampler's speed",
        "python benchmarks/sampler_speed.py --json benchmarks/results/sampler_speed.json",
        "One thread, processor time; rows without a peer are ours. What is compared runs in the same rounds; a time is "
        "the least, a ratio the median over the rounds with its quartiles. `hand-written` calls drift and diffusion as "
        "a sampler must, and draws as many normals; `solved by hand` has the equation's numbers built in: a floor.\n\n"
        "![Time of a step against batch, dimension, steps and width](images/sampler_speed.png)",
    ),
    "sampler_memory": (
        "The sampler's memory",
        "python benchmarks/sampler_memory.py --json benchmarks/results/sampler_memory.json",
        "Peak resident memory of a process of its own for each row.",
    ),
    "evaluation_cost": (
        "What metrics cost",
        "python benchmarks/evaluation_cost.py --json benchmarks/results/evaluation_cost.json",
        "One thread; each metric against its usual implementation in the same run, the two in turn, the least of "
        "five rounds. What counts are the ratios; the differences say that both compute the same.\n\n"
        "![Time of every metric against its size](images/evaluation_cost.png)",
    ),
    "work_precision": (
        "Error against cost",
        "python benchmarks/work_precision.py --json benchmarks/results/work_precision.json",
        "Along the same Brownian paths, torchsde's as well: `srk`, and `midpoint` for Stratonovich noise. Dotted lines "
        "show orders; that of a row is fitted to all its runs above the floor.\n\n"
        "![Error against cost of every solver on five systems](images/work_precision.png)",
    ),
    "bridges_lv200": (
        "Bridges: predator and prey, refined",
        "python benchmarks/bridges.py --set lv200 --threads 1 --json benchmarks/results/bridges_lv200.json",
        "Snapshots at even times train, those between are scored by the exact EMD of 1000 generated points, over three "
        "seeds; low and high are the least and the largest. `true mechanism` generates with the rates behind the data. "
        "Rows marked `literature` are quoted, not run.",
    ),
    **{
        f"bridges_{name}": (
            f"Bridges: {title}",
            f"python benchmarks/bridges.py --set {name} {'' if name == 'pbmc500' else '--threads 1 '}"
            f"--json benchmarks/results/bridges_{name}.json",
            "As for predator and prey: three seeds; rows marked `literature` are quoted, not run.",
        )
        for name, title in BRIDGES.items()
    },
    "bridges_nbody": (
        "Bridges: eight bodies, matched",
        "python benchmarks/bridges.py --set nbody --threads 1 --json benchmarks/results/bridges_nbody.json",
        "The probability that a bridge pairs a body with itself at the next snapshot; low is the least over the steps.",
    ),
    "bridge_coverage": (
        "Bridges: do intervals cover the truth?",
        "python benchmarks/bridge_coverage.py --json benchmarks/results/bridge_coverage.json",
        "Forty simulated sets of predator and prey; intervals of level .9.",
    ),
    "bridge_speed": (
        "Bridges: seconds against iterated simulation",
        "python benchmarks/bridge_speed.py --json benchmarks/results/bridge_speed.json",
        "`extrapolated` is reckoned from a shorter run, as the published method takes hours.",
    ),
    **{
        f"irregular_classification_{name.replace('-', '_')}": (
            f"Irregular series: classes of {title}",
            f"python benchmarks/irregular_classification.py --sets {name} "
            '--neighbours "neural CDE" "latent SDE" --threads 1 '
            f"--json benchmarks/results/irregular_classification_{name.replace('-', '_')}.json",
            "Five divisions; low and high are a standard deviation, of pooled accuracy a 95 % interval, and of falls "
            "under other holes the least and the largest. Run beside other work: seconds say little.",
        )
        for name, title in IRREGULAR.items()
    },
    "irregular_forecast": (
        "Irregular series: forecasts",
        "python benchmarks/irregular_forecast.py --seeds 1 --threads 1 "
        "--json benchmarks/results/irregular_forecast.json",
        "One start. The network adds hardly anything to the mean of the kernel start: what it learns are widths. "
        "Of training runs all is known that some training window shows. Run task by task beside other work, in seconds "
        "of the processor.",
    ),
    "irregular_interpolation": (
        "Irregular series: interpolation, and who survives",
        "python benchmarks/irregular_interpolation.py --json benchmarks/results/irregular_interpolation.json",
        "One division of patients for interpolation and five starts; five divisions for mortality. Rows of a version "
        "in which a value beyond five deviations said no more, as people who had seen these divisions chose, which "
        "flatters a little; in this version that follows from the size of the sample.",
    ),
    "sde_training_speed": (
        "Neural SDEs: a step of training",
        "python benchmarks/sde_training_speed.py --json benchmarks/results/sde_training_speed.json",
        "",
    ),
    "fractional_bridge": (
        "Fractional noise: posteriors against their floors",
        "python benchmarks/fractional_bridge.py --json benchmarks/results/fractional_bridge.json",
        "The least loss that is possible stands under `peer`: that of the exact posterior, for control that of its "
        "best control on the same steps. Rows without `network` are not trained, for the drift is linear and the start "
        "is the optimum; those with one are trained for 300 iterations on 20 steps. Run beside other work: "
        "seconds say little.",
    ),
    "hurst": (
        "Fractional noise: Hurst indices",
        "python benchmarks/hurst.py --json benchmarks/results/hurst.json",
        "Peers marked `literature` are quoted, not run. Rows of noisy paths with H up to .7 have intervals of the "
        "profile likelihood; all other rows were stored before, with intervals by the curvature. Run beside others.",
    ),
    "fractional_paired": (
        "Fractional noise: bridges between aligned pairs",
        "python benchmarks/fractional_paired.py --json benchmarks/results/fractional_paired.json",
        "Peers are published figures, means of ten trainings, and are quoted, not run; ours are means of three. Run "
        "beside other work: seconds say little.",
    ),
    "fractional_speed": (
        "Fractional noise: speed",
        "python benchmarks/fractional_speed.py --json benchmarks/results/fractional_speed.json",
        "Seconds of the processor of a path over ours stand under `peer`: ours in batches of 2000 paths, the others, "
        "fbm and stochastic too, one path a call. Run beside other work on the same cores.",
    ),
    "mjp": (
        "Markov jump processes",
        "python benchmarks/mjp.py --json benchmarks/results/mjp.json",
        "Two threads, seconds of the processor. Low and high are two standard errors of the mean over draws. Peers are "
        "the better of two published networks (Berghaus et al. 2024), which grow worse from K = 1000 on, and the "
        "likelihoods that the R package msm publishes. The machine was slow that day: expectation maximisation, whose "
        "code had not changed, took .5 to 4.5 times as long as in an earlier run, of 325 s, and twice in the median.",
    ),
    "million": (
        "A million cells",
        "python benchmarks/million.py --json benchmarks/results/million.json",
        "",
    ),
}


def number(value: Any) -> str:
    """Return a value for a cell."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out single holes where there are means over them."""
    means = [row for row in rows if "mean over" in row["metric"] or "wall" in row["metric"]]
    return means or rows


def table(rows: list[dict[str, Any]], fields: tuple[str, ...]) -> str:
    """Return rows as Markdown."""
    lines = ["| " + " | ".join(fields) + " |", "|" + "---|" * len(fields)]
    return "\n".join(lines + ["| " + " | ".join(number(row[field]) for field in fields) + " |" for row in rows])


def page() -> str:
    """Return ``docs/benchmarks.md``."""
    parts = [
        "# Benchmarks",
        "Printed by `python benchmarks/document.py` from the rows that the benchmarks stored; nothing here is typed by "
        "hand. Two CPU cores; each table has its baselines and its floor from the same run.",
    ]
    for name, (title, command, note) in PAGES.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        rows = shown(json.loads(path.read_text(encoding="utf-8")))
        parts += [f"## {title}", f"```bash\n{command}\n```"] + ([note] if note else [])
        fields = tuple(
            f for f in ("row", "metric", "value", "low", "high", "peer") if any(r[f] is not None for r in rows)
        )
        parts.append(table(rows, fields))
    return "\n\n".join(parts) + "\n"


def readme() -> str:
    """Return the README with its table in place."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    path = RESULTS / "leave_one_out_eb_5.json"
    if not path.exists():
        return text
    found: dict[str, dict[str, float]] = {}
    for entry in json.loads(path.read_text(encoding="utf-8")):
        protocol, _, name = entry["row"].partition(": ")
        if entry["metric"] == "W1, mean over holes" and protocol == "published":
            found.setdefault(name, {})["published"] = entry["value"]
        if protocol == "clean" and entry["metric"] in ("W1, mean over holes", "skill, mean over holes"):
            short = name.removesuffix(" (restart)")
            key = "clean" if entry["metric"].startswith("W1") else "skill"
            found.setdefault(short, {})[key] = entry["value"]
            if entry["low"] is not None:
                found[short] |= {"low": entry["low"], "high": entry["high"]}
    lines = ["| | published protocol | clean protocol | skill, 95 % |", "|---|---|---|---|"]
    for name, values in found.items():
        if "published" not in values:
            continue
        skill = f"{values['skill']:.2f}" if "skill" in values else ""
        skill += f" ({values['low']:.2f} to {values['high']:.2f})" if "low" in values else ""
        lines.append(f"| {name} | {values['published']:.3f} | {values['clean']:.3f} | {skill} |")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}"


def solvers() -> str:
    """Return ``docs/sampling.md`` with its table of solvers, read from the classes."""
    from gendyn.sampling import SOLVERS

    lines = [
        "| solver | calculus | noise | order | drifts a step | diffusions | when |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, solver in SOLVERS.items():
        calculus = "either" if len(solver.calculus) == 2 else solver.calculus[0]
        order = "exact" if solver.order == float("inf") else f"{solver.order:g}"
        if "none" in solver.noise_types and len(solver.noise_types) > 1 and solver.order > 1:
            order += ", 1 with noise"
        cost = f"{solver.drift_evaluations} | {solver.diffusion_evaluations or ''}"
        lines.append(f"| `{name}` | {calculus} | {', '.join(solver.noise_types)} | {order} | {cost} | {solver.use} |")
    lines.append("| `dopri5` | either | none | 5 | adaptive | | ordinary equations, to a tolerance: their default |")
    text = (ROOT / "docs" / "sampling.md").read_text(encoding="utf-8")
    before, rest = text.split("<!-- solvers -->")
    after = rest.split("<!-- end of solvers -->")[1]
    return f"{before}<!-- solvers -->\n" + "\n".join(lines) + f"\n<!-- end of solvers -->{after}"


def metrics() -> str:
    """Return ``docs/evaluation.md`` with its table of metrics, read from the catalogue."""
    from gendyn.evaluation import METRICS

    lines = ["| metric | for | by default | what it measures |", "|---|---|---|---|"]
    for name, metric in METRICS.items():
        usual = {(True, True): "yes", (False, True): "above 5 features"}.get((metric.default(1), metric.default(9)), "")
        lines.append(f"| {name} | {', '.join(metric.kinds)} | {usual} | {metric.about} |")
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    before, rest = text.split("<!-- metrics -->")
    after = rest.split("<!-- end of metrics -->")[1]
    return f"{before}<!-- metrics -->\n" + "\n".join(lines) + f"\n<!-- end of metrics -->{after}"


def main() -> int:
    """Write or check."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is out of date")
    check = options.parse_args().check
    stale = []
    pages = {"docs/benchmarks.md": page(), "README.md": readme(), "docs/sampling.md": solvers()}
    pages["docs/evaluation.md"] = metrics()
    for path, text in ((ROOT / name, text) for name, text in pages.items()):
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8")
    print(", ".join(stale) or "nothing", "out of date" if check else "written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
