"""The examples of the documentation run, top to bottom."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["sampling.md"])
def test_examples_run(name):
    namespace: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), namespace)
    once, twice = namespace["once"], namespace["twice"]
    # One Brownian path: Milstein's steps of 1/32 and of 1/128 end near each other.
    assert (once.values - twice.values).abs().mean() < 0.05
