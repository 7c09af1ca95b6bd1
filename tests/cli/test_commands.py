"""The command line, as a person and as a machine use it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import gendyn
from gendyn.cli import run

QUICK = "--steps 10 --set hidden=[8]"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cells(folder):
    assert run(shlex.split("simulate toggle-switch --times 0,1,2,3 --n 40 --out cells.npz")) == 0
    return "cells.npz"


def machine(capsys, line):
    """Run a command with --json and return the document that is all it prints."""
    capsys.readouterr()
    assert run([*shlex.split(line), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return json.loads(out)


def refused(capsys, line):
    """Run a command that must fail, and return its one sentence."""
    before = {p: p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}
    capsys.readouterr()
    assert run(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    after = {p: p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}
    assert before == after
    assert out == ""
    assert err.startswith("gendyn: ")
    assert err.count("\n") == 1
    return err


# --- one command after the other ---------------------------------------------------------------------------


def test_the_whole_way(capsys, cells):
    fitted = machine(capsys, f"fit {cells} --coupling ot {QUICK} --out m.safetensors --without 2")
    assert fitted["times"] == [0.0, 1.0, 3.0]
    assert fitted["steps"] == 10
    run_ = machine(capsys, "sample m.safetensors --n 30 --times 0:3:0.5 --out paths.npz")
    assert run_["times"] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert gendyn.Paths.load("paths.npz").values.shape == (30, 7, 2)
    report = machine(capsys, f"evaluate {cells} paths.npz --metrics W1 --html r.html --out r.json")
    assert [row["time"] for row in report["rows"]] == [0.0, 1.0, 2.0, 3.0, None]
    assert json.loads(Path("r.json").read_text())["rows"]
    assert "data:image/png" in Path("r.html").read_text()
    one = machine(capsys, f"evaluate {cells} paths.npz --metrics W1 --times 2")
    assert len(one["rows"]) == 1


def test_sets_of_paths_are_compared_as_such(capsys):
    for k, name in enumerate(("real", "made", "fitted")):
        walks = torch.randn(40, 6, 2, generator=torch.Generator().manual_seed(k)).cumsum(1)
        gendyn.Paths(range(6), walks, names=["u", "v"]).save(f"{name}.npz")
    asked = "evaluate real.npz made.npz --metrics marginal_W1,copy-ratio"
    first = machine(capsys, f"{asked} --out first.json --html r.html")
    assert (first["kind"], [row["metric"] for row in first["rows"]]) == ("paths", ["marginal W1", "copy ratio"])
    assert Path("r.html").read_text().count("<img") == 5
    again = machine(capsys, f"{asked} --floors first.json")
    assert [row["floor"] for row in again["rows"]] == [row["floor"] for row in first["rows"]]
    held = machine(capsys, f"{asked} --train fitted.npz")
    assert "against held-out paths" in held["rows"][1]["note"]
    timed = machine(capsys, "evaluate real.npz made.npz --metrics W1 --times 2,5")
    assert timed["kind"] == "populations"
    assert "--times is for populations" in refused(capsys, "evaluate real.npz made.npz --kind paths --times 2")
    assert "is a metric for paths" in refused(capsys, f"{asked} --kind populations")


def test_leave_one_out(capsys, cells):
    found = machine(
        capsys, f"leave-one-out {cells} --methods ot,flow-matching:sigma=0.2 {QUICK} --times 1 --out l.json"
    )
    assert {"ot", "flow-matching:sigma=0.2", "OT interpolant", "floor"} <= {row["row"] for row in found["rows"]}
    assert (
        run(shlex.split(f"leave-one-out {cells} --methods ot {QUICK} --times 1 --protocol published --html l.html"))
        == 0
    )
    out = capsys.readouterr().out
    assert "mean shift" in out
    assert "skill" not in out


def test_the_same_seed_writes_the_same_bytes(cells):
    for k in (1, 2):
        run(shlex.split(f"fit {cells} {QUICK} --seed 5 --out m{k}.safetensors"))
        run(shlex.split(f"sample m{k}.safetensors --n 9 --seed 3 --out p{k}.npz"))
    assert Path("m1.safetensors").read_bytes() == Path("m2.safetensors").read_bytes()
    assert torch.equal(gendyn.Paths.load("p1.npz").values, gendyn.Paths.load("p2.npz").values)


@pytest.mark.parametrize("ending", [".npz", ".csv", ".csv.gz", ".parquet", ".h5ad"])
def test_populations_in_every_format(capsys, cells, ending):
    run(shlex.split(f"fit {cells} {QUICK}"))
    found = machine(capsys, f"sample model.safetensors --populations --n 5 --out made{ending}")
    assert found["kind"] == "snapshots"
    told = machine(capsys, f"info made{ending}")
    assert (told["kind"], told["cells"], told["dim"]) == ("snapshots", [5, 5, 5, 5], 2)


def test_starting_from_other_cells(capsys, cells):
    run(shlex.split(f"fit {cells} {QUICK}"))
    found = machine(capsys, f"sample model.safetensors --start {cells} --at 1 --times 2,3 --out p.npz")
    assert (found["n"], found["times"]) == (40, [2.0, 3.0])


def test_paths_of_a_system(capsys):
    found = machine(
        capsys, "simulate lotka-volterra --paths --n 4 --times 0:1:0.5 --set volatility=0.1 --out p.parquet"
    )
    assert found["kind"] == "paths"
    assert machine(capsys, "info p.parquet")["paths"] == 4


@pytest.mark.parametrize("name", gendyn.systems.SYSTEMS)
def test_every_system_is_simulated(capsys, name):
    system = gendyn.systems.get_system(name)
    times = ",".join(str(t) for t in system.times[:3])
    found = machine(capsys, f"simulate {name} --times {times} --n 4 --paths --out p.npz")
    paths = gendyn.Paths.load("p.npz")
    assert (found["kind"], found["dim"], paths.n_paths) == ("paths", paths.dim, 4)
    assert found["names"] == list(system.names[: paths.dim])
    found = machine(capsys, f"simulate {name} --times {times} --n 4 --out c.npz")
    assert gendyn.Snapshots.load("c.npz").sizes == (4, 4, 4)
    assert found["system"] == repr(system)


def test_a_biologists_file(capsys, folder):
    generator = np.random.default_rng(0)
    adata = anndata.AnnData(np.zeros((60, 1), dtype=np.float32))
    adata.obs["day"] = np.repeat(["D0", "D2", "D10"], 20)
    adata.obsm["X_pca"] = generator.normal(size=(60, 5)).astype(np.float32)
    adata.write_h5ad(folder / "cells.h5ad")
    assert machine(capsys, "info cells.h5ad --time-key day")["times"] == [0.0, 2.0, 10.0]
    fitted = machine(capsys, f"fit cells.h5ad --time-key day --dims 3 {QUICK}")
    assert fitted["dim"] == 3


def test_labels_that_hold_no_number(capsys):
    frame = pd.DataFrame({"stage": ["early"] * 12 + ["late"] * 12, "x": range(24), "y": range(24)})
    frame.to_csv("t.csv", index=False)
    found = machine(capsys, "info t.csv --time-key stage --label early=0 --label late=4 --columns x")
    assert (found["times"], found["dim"]) == ([0.0, 4.0], 1)


# --- information -------------------------------------------------------------------------------------------


def test_info_of_the_installation(capsys):
    found = machine(capsys, "info")
    assert "flow-matching" in found["models"]
    assert "W1" in found["metrics"]["populations"]
    assert "toggle-switch" in found["systems"]
    assert "populations" in found["scenes"]
    assert "eb" in [entry["name"] for entry in found["data sets"]]
    assert run(["info"]) == 0
    assert "flow-matching" in capsys.readouterr().out


def test_info_of_files(capsys, cells):
    run(shlex.split(f"fit {cells} {QUICK} --seed 7 --coupling spline-ot"))
    run(shlex.split("sample model.safetensors --n 3"))
    model = machine(capsys, "info model.safetensors")
    assert (model["kind"], model["class"], model["seed"]) == ("model", "FlowMatching", 7)
    assert model["parameters"]["coupling"] == "spline-ot"
    assert machine(capsys, "info paths.npz")["kind"] == "paths"
    for source in (cells, "model.safetensors", "paths.npz"):
        assert run(["info", source]) == 0
        assert "kind" in capsys.readouterr().out


def test_a_bridge_says_what_its_couplings_took(cells, capsys):
    result = machine(capsys, f"fit {cells} --method schrodinger-bridge --sigma 0.5 --out b.safetensors")
    assert result["pairs"] == 3 * 40 * 40
    assert result["seconds"] > 0
    assert 0 < result["gigabytes"] < 0.01


@pytest.mark.parametrize("command", ["", "demo", "fit", "sample", "evaluate", "leave-one-out", "simulate", "info"])
def test_help(capsys, command):
    assert run([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage" in out
    if command:
        assert "--json" in out
        assert "Example" in out or command == "demo"


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"gendyn {gendyn.__version__}\n"


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frobnicate", "No such command 'frobnicate'"),
        ("fit", "Missing argument"),
        ("fit nowhere.csv", "there is no file 'nowhere.csv', nor a data set of that name"),
        ("fit cells.npz --out m.txt", "ends in .safetensors"),
        ("fit cells.npz --out no/m.safetensors", "there is no folder 'no'; make it first"),
        ("fit cells.npz --coupling magic", "coupling must be one of"),
        ("fit cells.npz --method magic", "there is no method 'magic'"),
        ("fit cells.npz --set nonsense=1", "has no parameter nonsense; it has coupling"),
        ("fit cells.npz --set nonsense", "must look like name=value"),
        ("fit cells.npz --steps many", "--steps"),
        ("fit cells.npz --steps 0", "steps must be at least 1"),
        ("fit cells.npz --device tpu", "there is no device 'tpu' here; there are cpu"),
        ("fit cells.npz --without 9", "nothing was measured at time 9; there are times"),
        ("fit cells.npz --without 0,1,2,3", "leaves no time"),
        ("fit cells.npz --dims 9", "dims"),
        ("fit cells.npz --checkpoint model.safetensors", "--checkpoint and --out are the same file"),
        ("sample cells.npz", "cells.npz"),
        ("sample nowhere.safetensors", "nowhere.safetensors"),
        ("evaluate cells.npz nowhere.npz", "there is no file 'nowhere.npz'"),
        ("evaluate cells.npz cells.npz --metrics W9", "there is no metric 'W9'"),
        ("evaluate cells.npz cells.npz --html r.txt", "ends in .html"),
        ("evaluate cells.npz cells.npz --times 77", "nothing was measured at time 77"),
        ("leave-one-out cells.npz --methods ot,,ot", "separated by commas without gaps"),
        ("leave-one-out cells.npz --methods ot,ot", "names ot twice"),
        ("leave-one-out cells.npz --protocol quick --steps 5", "protocol must be"),
        ("leave-one-out cells.npz --times 0 --steps 5", "only inner times can be held out"),
        ("simulate unicorn --out a.npz", "there is no system 'unicorn'; there are toggle-switch"),
        ("simulate toggle-switch --out a.npz --n 0", "n must be"),
        ("simulate toggle-switch --out a.npz --times 3,2,1", "increase strictly"),
        ("simulate toggle-switch --out a.npz --times 0:1:-1", "never arrives"),
        ("simulate toggle-switch --out a.npz --set decay=-1", "decay"),
        ("simulate toggle-switch --out a.xlsx", "give a name that ends in"),
        ("info cells.txt", "there is no file 'cells.txt'"),
        ("demo unicorn", "there is no scene 'unicorn'; there are populations"),
        ("demo --data unicorn", "cannot be played on 'unicorn'"),
        ("demo --out cells.npz", "it is a file"),
        ("demo --out no/where", "make it first"),
    ],
)
def test_one_sentence_and_exit_code_2(capsys, cells, line, message):
    assert message in refused(capsys, line)


def test_an_absent_data_set_is_a_sentence(capsys, monkeypatch):
    monkeypatch.delenv("GENDYN_DATA", raising=False)
    assert run(shlex.split("demo --data eb")) == 2
    said = capsys.readouterr().err
    assert "embryoid body" in said
    assert "Moon et al." in said
    assert "GENDYN_DATA" in said


def test_the_input_is_never_overwritten(capsys):
    run(shlex.split("simulate toggle-switch --times 0,1 --n 20 --out a.npz"))
    run(shlex.split(f"fit a.npz {QUICK}"))
    assert "is also the input" in refused(capsys, "sample model.safetensors --start a.npz --out a.npz")


def test_a_fault_of_ours_is_told_from_one_of_yours(folder):
    code = "import gendyn.cli.simulate as s, gendyn.systems as y\ny.simulate_snapshots = 1 .real\n"
    code += "y.get_system = lambda *a, **k: {}.undefined\nfrom gendyn.cli import main\nmain()"
    line = [sys.executable, "-c", code, "simulate", "toggle-switch", "--out", "a.npz"]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 1
    assert "a fault inside gendyn (AttributeError" in done.stderr
    assert "Traceback" not in done.stderr
    told = subprocess.run([*line, "--debug"], capture_output=True, text=True, env=os.environ, check=False)
    assert "Traceback" in told.stderr


def test_output_can_be_cut_off(folder):
    line = f"{shlex.quote(sys.executable)} -m gendyn info | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.startswith("gendyn ")
    assert "Traceback" not in done.stderr


# --- the demonstration -------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    from gendyn.cli.scenes import half_a_recording, noise_dial, populations, predator_and_prey

    monkeypatch.setattr(half_a_recording, "_EPOCHS", 2)
    monkeypatch.setattr(populations, "_STEPS", 40)
    monkeypatch.setattr(populations, "_CELLS", 60)
    monkeypatch.setattr(populations, "_REAL_CELLS", 60)
    monkeypatch.setattr(noise_dial, "_STEPS", 40)
    monkeypatch.setattr(noise_dial, "_DRAWN", 60)
    monkeypatch.setattr(predator_and_prey, "_ANIMALS", 40)


def test_demo_writes_its_files(capsys, short, folder):
    found = machine(capsys, "demo")
    made = {p.name for p in (folder / "gendyn-demo").iterdir()}
    assert made == {
        "report.html", "snapshots.npz", "paths.npz", "model.safetensors", "metrics.json", "populations.png"
    }  # fmt: skip
    page = (folder / "gendyn-demo" / "report.html").read_text()
    assert page.count("<img") >= 6
    assert found["scenes"]["populations"]["w1"] > 0
    assert json.loads((folder / "gendyn-demo" / "metrics.json").read_text())["seed"] == 0
    assert run(["demo"]) == 0
    assert "open it in a browser" in capsys.readouterr().out


def test_all_scenes_in_one_report(short, folder):
    assert run(["demo", "all", "--out", "all"]) == 0
    assert (folder / "all" / "populations" / "paths.npz").exists()
    assert (folder / "all" / "noise-dial" / "noise-dial.png").exists()
    assert (folder / "all" / "flashing-ratchet" / "flashing-ratchet.png").exists()
    assert (folder / "all" / "predator-and-prey" / "parameters.csv").exists()
    assert (folder / "all" / "half-a-recording" / "half-a-recording.png").exists()
    assert (folder / "all" / "rough-volatility" / "rough-volatility.png").exists()
    numbers = json.loads((folder / "all" / "metrics.json").read_text())["scenes"]["half-a-recording"]
    assert numbers["rmse"] < numbers["rmse_line"]
    assert (folder / "all" / "report.html").exists()


def test_predators_and_prey_are_understood(capsys, folder):
    found = machine(capsys, "demo predator-and-prey")["scenes"]["predator-and-prey"]
    made = {p.name for p in (folder / "gendyn-demo").iterdir()}
    assert made == {
        "report.html", "snapshots.npz", "paths.npz", "parameters.csv", "model.safetensors", "metrics.json",
        "predator-and-prey.png",
    }  # fmt: skip
    truth = {"growth": 1.0, "predation": 0.4, "death": 0.4, "reproduction": 0.1}
    assert {name: found[name] for name in truth} == pytest.approx(truth, rel=0.05)
    for where, blind in (("between", "transport"), ("later", "last_population")):
        assert found[f"w2_{where}_learned_mechanism"] < 0.3 * found[f"w2_{where}_{blind}"]
        assert found[f"w2_{where}_learned_mechanism"] < 1.1 * found[f"w2_{where}_floor"]


def test_the_volatility_of_a_stock_is_rough(capsys, folder):
    found = machine(capsys, "demo rough-volatility")["scenes"]["rough-volatility"]
    made = {p.name for p in (folder / "gendyn-demo").iterdir()}
    assert made == {"report.html", "paths.npz", "model.safetensors", "metrics.json", "rough-volatility.png"}
    assert 0.05 < found["hurst_low"] < found["hurst"] < found["hurst_high"] < 0.4
    # The error of a range looks like roughness to who does not know of it.
    assert found["hurst_without_error"] < 0.5 * found["hurst"]
    assert found["variogram_ratio_least"] > 0.85
    assert found["variogram_ratio_largest"] < 1.15
    page = (folder / "gendyn-demo" / "report.html").read_text()
    assert "How rough is volatility?" in page
    model = gendyn.load(folder / "gendyn-demo" / "model.safetensors")
    assert model.hurst_.item() == found["hurst"]
    assert model.noise_.item() == pytest.approx(0.29)


def test_demo_on_real_cells(capsys, short):
    if not gendyn.datasets.available().set_index("name").loc["eb", "present"]:
        pytest.skip("the embryoid-body cells are not in $GENDYN_DATA")
    found = machine(capsys, "demo --data eb")
    assert found["scenes"]["populations"]["hole"] == 13.5
