"""What the README shows is run, word for word."""

import re
import shlex
from pathlib import Path

import pytest

from gendyn.cli import run
from gendyn.models import MODELS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- run -->\n```(\w+)\n(.*?)```", README, flags=re.S)


def test_the_readme_has_its_examples():
    assert [language for language, _ in BLOCKS] == ["python", "bash", "python"]


@pytest.mark.parametrize("block", [b for language, b in BLOCKS if language == "python"], ids=["python", "anndata"])
def test_python(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for line in next(b for language, b in BLOCKS if language == "bash").strip().splitlines():
        program, *arguments = shlex.split(line)
        assert program == "gendyn"
        assert run(arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "report.html").exists()


def test_there_are_two_set_up_commands():
    commands = re.findall(r"```bash\n(python3 -m venv .*)\n```", README)
    assert len(commands) == 2
    assert commands[0].endswith("gendyn demo")
    assert "pytest" in commands[1]
    assert all("-c constraints.txt" in command for command in commands)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_stands_in_the_table_and_in_the_docs(name):
    table = README.split("## Models")[1].split("\n## ")[0]
    assert re.search(rf"`{name}[`(]", table), f"README's table of models lacks {name}"
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert re.search(rf"\b{name}\b", pages), f"no page of docs speaks of {name}"


def test_links_lead_somewhere():
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_no_path_of_a_machine_and_no_host_of_packages():
    here = str(Path.home())
    for path in ROOT.rglob("*"):
        if path.suffix in {".md", ".py", ".toml", ".txt", ".cff"} and ".venv" not in path.parts:
            content = path.read_text(encoding="utf-8")
            assert here == "/" or f"{here}/" not in content, path
