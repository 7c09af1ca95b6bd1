"""The examples of the documentation run, top to bottom."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def run(name):
    """Run the examples of a page in one namespace, and return it."""
    namespace: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), namespace)
    return namespace


def test_examples_of_sampling():
    found = run("sampling.md")
    # One Brownian path: Milstein's steps of 1/32 and of 1/128 end near each other.
    assert (found["once"].values - found["twice"].values).abs().mean() < 0.05


def test_examples_of_the_data_sets():
    found = run("datasets.md")
    assert found["recording"].dim == 4
    assert len(found["table"]) == 66


def test_examples_of_scoring():
    found = run("evaluation.md")
    assert len(found["again"].table) == 1


def test_examples_of_interpolants(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run("interpolants.md")
    assert found["paths"].times.tolist() == [0.0, 1.0, 2.0]
    assert found["growing"].grows
    assert (tmp_path / "flow.safetensors").is_file()
