"""The memory of gradients, predicted and measured by torch's own allocator."""

import json

import pytest
import torch
from test_gradients import Neural
from torch.profiler import ProfilerActivity, profile

from gendyn.sampling import ODE, SDE, adjoint, predict_memory, sample
from gendyn.sampling import plan as plans

X0 = torch.zeros(512, 3)
TIMES = [0.0, 0.5, 1.0]


def peak(run, folder):
    """Return the most bytes that were allocated at once while something ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    record.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    now = most = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most


@pytest.mark.filterwarnings("ignore:reversible Heun")
@pytest.mark.parametrize(
    ("noise_type", "solver", "mode"),
    [
        ("diagonal", "heun", "backprop"),
        ("general", "ees25", "checkpoint"),
        ("none", "rk4", "backprop"),
        ("additive", "shark", "checkpoint"),
        ("general", "ees25", "reversible"),
        ("diagonal", "reversible_heun", "reversible"),
    ],
)
def test_what_is_predicted_is_what_is_taken(noise_type, solver, mode, tmp_path):
    process = Neural(noise_type, torch.float32)
    predicted = predict_memory(process, X0, TIMES, solver=solver, step=0.02)[mode]

    def run():
        sample(process, X0, TIMES, solver=solver, step=0.02, gradient=mode).values.sum().backward()

    run()  # gradients of the parameters are allocated once
    measured = peak(run, tmp_path)
    if mode == "reversible":
        # One step and its way back: less than twice what the step keeps.
        assert 0.4 * predicted < measured < 1.1 * predicted
    else:
        assert measured == pytest.approx(predicted, rel=0.06)


def test_auto_decides_by_it(monkeypatch):
    process = Neural("diagonal", torch.float32)
    predicted = predict_memory(process, X0, TIMES, solver="heun", step=0.01)["backprop"]
    taken = []
    real = adjoint.checkpointed_outputs
    monkeypatch.setattr(plans, "checkpointed_outputs", lambda run, tick: taken.append(run) or real(run, tick))
    for limit, pieces in ((predicted - 1, 1), (predicted + 1, 0)):
        taken.clear()
        monkeypatch.setattr(plans, "_LARGE_GRAPH", limit)
        sample(process, X0, TIMES, solver="heun", step=0.01, gradient="auto")
        assert len(taken) == pieces


@pytest.mark.filterwarnings("ignore:reversible Heun")
def test_it_grows_as_it_should():
    process = Neural("diagonal", torch.float32)

    def found(rows=256, step=0.01, end=2.0, solver="ees25"):
        return predict_memory(process, torch.zeros(rows, 3), [0.0, end], solver=solver, step=step)

    few, twice = found(), found(end=4.0)
    assert twice["backprop"] == pytest.approx(2 * few["backprop"], rel=0.02)
    assert twice["reversible"] == few["reversible"] + 200 * 256 * 3 * 4
    long, longer = (found(rows=2048, end=end)["reversible"] for end in (40.0, 80.0))
    assert long == longer > 64e6
    carried = [found(end=end, solver="reversible_heun")["reversible"] for end in (2.0, 4.0)]
    assert carried[0] == carried[1] < few["reversible"]
    assert found(rows=512)["backprop"] == pytest.approx(2 * few["backprop"], rel=0.01)
    # Of 40 000 steps a piece has two hundred (whole segments of 32).
    assert found(end=400.0)["checkpoint"] == pytest.approx(224 / 200 * few["backprop"], rel=0.05)


def test_solvers_that_cannot_go_back_have_no_reversible_mode():
    process = Neural("diagonal", torch.float32)
    assert set(predict_memory(process, X0, TIMES, solver="heun", step=0.1)) == {"backprop", "checkpoint"}
    assert set(predict_memory(process, X0, TIMES, solver="ees25", step=0.1)) == {"backprop", "checkpoint", "reversible"}


def test_nothing_that_asks_for_a_gradient_keeps_nothing():
    plain = SDE(lambda t, x: -(x**3), lambda t, x: x.sin(), 3)
    alone = predict_memory(plain, X0, TIMES, step=0.01)
    assert alone["backprop"] < alone["checkpoint"] < 100 * X0.nbytes
    asked = predict_memory(plain, X0.clone().requires_grad_(), TIMES, step=0.01)
    # A step keeps its start (for the cube and the sine) and its increment.
    assert 2 * 100 * X0.nbytes < asked["backprop"] < 3 * 100 * X0.nbytes


def test_adaptive_solvers_are_not_known_before():
    with pytest.raises(ValueError, match="'dopri5' has no steps that are known before it runs"):
        predict_memory(ODE(lambda t, x: -x, 3), X0, TIMES)
