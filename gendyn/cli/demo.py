"""``gendyn demo``: see what the package does, offline, in under two minutes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gendyn.cli.door import announce, emit, plain
from gendyn.cli.options import Debug, Json, Seed
from gendyn.cli.tables import print_lines

__all__ = ["demo"]


def demo(
    scene: Annotated[
        str, typer.Argument(help="Which scene: populations, or all of them with `all`. `gendyn info` lists them.")
    ] = "populations",
    data: Annotated[
        str | None,
        typer.Option(help="Play the scene on real data: eb (embryoid-body cells, read from $GENDYN_DATA)."),
    ] = None,
    out: Annotated[str, typer.Option(help="Folder for the report and the files.")] = "gendyn-demo",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn a process from a population, predict a time nobody measured, and write a report with pictures.

    Needs no data and no network. Open gendyn-demo/report.html in a browser when it is done.
    """
    from gendyn.cli.scenes import SCENES, Stage
    from gendyn.data import atomic_path
    from gendyn.plotting import combine

    chosen = list(SCENES) if scene == "all" else [scene]
    for name in chosen:
        if name not in SCENES:
            raise ValueError(f"there is no scene {name!r}; there are {', '.join(SCENES)}, and all")
        if data is not None and data not in SCENES[name].data:
            able = [f"{s} ({', '.join(entry.data)})" for s, entry in SCENES.items() if entry.data]
            raise ValueError(
                f"the scene {name!r} cannot be played on {data!r}; real data are known to {', '.join(able)}"
            )
    folder = _folder(out)
    began = time.perf_counter()
    pages, numbers = [], {}
    for name in chosen:
        own = folder if scene != "all" else folder / name
        own.mkdir(exist_ok=True)
        announce(f"{name}: {SCENES[name].summary}")
        page, found = SCENES[name].play(Stage(own, seed, data, progress=sys.stderr.isatty() and not as_json))
        pages.append(page)
        numbers[name] = found
    report = pages[0] if scene != "all" else combine(pages, "gendyn", "all scenes of the demonstration")
    report.save(folder / "report.html")
    result: dict[str, Any] = {
        "scenes": numbers,
        "seed": seed,
        "data": data,
        "seconds": time.perf_counter() - began,
        "report": str(folder / "report.html"),
    }
    with atomic_path(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(plain(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def show() -> None:
        for name, found in numbers.items():
            print_lines(f"{name}: {_headline(found)}")
        print_lines(f"report: {folder / 'report.html'} ({result['seconds']:.0f} s); open it in a browser")

    emit(result, as_json, show)


def _headline(numbers: dict[str, Any]) -> str:
    """Say a scene's numbers in one line."""
    return ", ".join(f"{key} {value:.3g}" for key, value in numbers.items() if isinstance(value, float))


def _folder(out: str) -> Path:
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"cannot write to {out!r}: it is a file; give the name of a folder with --out")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"cannot make {out!r}: there is no folder {str(folder.parent)!r}; make it first")
    folder.mkdir(exist_ok=True)
    return folder
