"""The examples run from top to bottom; fits are cut short."""

import runpy
from pathlib import Path

import pytest

from gendyn import training
from gendyn.training import estimator

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path, monkeypatch, capsys):
    fit = estimator.fit
    for place in (estimator, training):
        monkeypatch.setattr(place, "fit", lambda objective, **more: fit(objective, **(more | {"steps": 30})))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path))
    pictures = list(tmp_path.glob("*.png"))
    assert pictures
    assert pictures[0].name in capsys.readouterr().out
