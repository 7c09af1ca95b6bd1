"""The likelihood of looks against closed forms, published fits and another way to the same number."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import expm

import gendyn
from gendyn.data import Paths, read_paths
from gendyn.mjp import HiddenLikelihood, LabelNoise, MarkovJumpModel, PanelLikelihood, StateObservations
from gendyn.mjp.maximum_likelihood import JumpParameters, maximise_likelihood
from gendyn.sampling.jumps import RateMatrix, sample_events

THREE = torch.tensor([[-1.5, 1.0, 0.5], [0.2, -0.5, 0.3], [0.4, 0.6, -1.0]], dtype=torch.float64)
LAW = torch.full((3,), 1 / 3, dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)


def random_looks(n: int = 20, seed: int = 0) -> Paths:
    process = RateMatrix(THREE)
    rng = np.random.default_rng(seed)
    times = torch.from_numpy(np.cumsum(rng.uniform(0.1, 1.0, (n, 8)), 1))
    labels = torch.from_numpy(rng.integers(3, size=(n, 8)))
    del process
    return Paths(times, labels)


def test_the_panel_likelihood_is_a_product_of_transition_probabilities():
    paths = random_looks()
    expected = 0.0
    for t, x in zip(paths.times.numpy(), paths.values[..., 0].numpy(), strict=True):
        for k in range(7):
            expected += np.log(expm(THREE.numpy() * (t[k + 1] - t[k]))[x[k], x[k + 1]])
    seen = StateObservations.of(paths)
    assert PanelLikelihood(seen).value(THREE, EYE, LAW) == pytest.approx(expected, rel=1e-9)


def test_expected_jumps_and_dwell_times_given_both_ends():
    seen = StateObservations.of(Paths([0.0, 1.0], torch.tensor([[0, 1]])), n_states=3)
    events = PanelLikelihood(seen).expected(THREE, EYE, LAW)
    assert events.dwell.tolist() == pytest.approx([0.3989985, 0.5465506, 0.0544509], abs=1e-7)
    jumps = [0.9111987, 0.1509524, 0.0317870, 0.0341573, 0.0303641, 0.1547456]
    assert events.jumps[~torch.eye(3, dtype=torch.bool)].tolist() == pytest.approx(jumps, abs=1e-7)


@pytest.mark.parametrize("hidden", [False, True])
def test_slopes_agree_with_differences(hidden):
    seen = StateObservations.of(random_looks())
    likelihood = HiddenLikelihood(seen) if hidden else PanelLikelihood(seen)
    emission = LabelNoise.uniform(seen.meaning, 0.1).emission if hidden else EYE
    slopes = likelihood.slopes(THREE, emission, LAW).rates
    for i, j in ((0, 1), (2, 0), (1, 1)):
        shift = torch.zeros_like(THREE)
        shift[i, j] = 1e-5
        up, down = (likelihood.value(THREE + s * shift, emission, LAW) for s in (1, -1))
        assert float(slopes[i, j]) == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_the_hidden_likelihood_without_noise_is_the_panel_one_and_the_first_look():
    seen = StateObservations.of(random_looks())
    first = torch.bincount(seen.labels[:, 0], minlength=3).double() @ LAW.log()
    panel = PanelLikelihood(seen).value(THREE, EYE, LAW)
    assert HiddenLikelihood(seen).value(THREE, EYE, LAW) == pytest.approx(panel + float(first), rel=1e-12)


def test_the_hidden_likelihood_sums_over_all_states():
    """Against the sum over every sequence of hidden states."""
    paths = Paths([0.0, 0.7, 1.0, 2.2], torch.tensor([[0, 2, 1, 1]]))
    emission = torch.tensor([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.0, 0.2, 0.8]], dtype=torch.float64)
    steps = [expm(THREE.numpy() * d) for d in (0.7, 0.3, 1.2)]
    total = 0.0
    for a in range(3):
        for b in range(3):
            for c in range(3):
                for d in range(3):
                    looks = emission[a, 0] * emission[b, 2] * emission[c, 1] * emission[d, 1]
                    total += float(looks) / 3 * steps[0][a, b] * steps[1][b, c] * steps[2][c, d]
    seen = StateObservations.of(paths, n_states=3)
    assert HiddenLikelihood(seen).value(THREE, emission, LAW) == pytest.approx(np.log(total), rel=1e-10)


def test_censored_labels_stand_for_several_states():
    seen = StateObservations.of(Paths([0.0, 1.0], torch.tensor([[0, 9]])), n_states=3, censored={9: (1, 2)})
    emission = LabelNoise.fixed(seen.meaning).emission
    moved = expm(THREE.numpy())[0, 1:].sum()
    assert HiddenLikelihood(seen).value(THREE, emission, LAW) == pytest.approx(np.log(moved / 3), rel=1e-10)


def test_complete_paths_give_jumps_over_time():
    process = RateMatrix(THREE)
    events = sample_events(process, torch.zeros(40, 1, dtype=torch.int64), end=30.0, seed=1)
    model = MarkovJumpModel("em", noise=0).fit(events, progress=False)
    jumps, dwell = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for path in range(40):
        count = int(events.counts[path])
        states = events.event_states[path, : count + 1, 0].tolist()
        moments = [0.0, *events.event_times[path, :count].tolist(), 30.0]
        for k, state in enumerate(states):
            dwell[state] += moments[k + 1] - moments[k]
            if k < count:
                jumps[state, states[k + 1]] += 1
    off = ~torch.eye(3, dtype=torch.bool)
    assert model.rate_matrix_[off].tolist() == pytest.approx((jumps / dwell[:, None])[off].tolist(), rel=1e-5)


def test_two_states_have_their_rates_in_closed_form():
    labels = [[0, 0]] * 80 + [[0, 1]] * 20 + [[1, 0]] * 15 + [[1, 1]] * 85
    model = MarkovJumpModel("em", noise=0).fit(Paths([0.0, 1.0], torch.tensor(labels)), progress=False)
    assert model.rate_matrix_[0, 1].item() == pytest.approx(0.2461617, rel=1e-5)
    assert model.rate_matrix_[1, 0].item() == pytest.approx(0.1846212, rel=1e-5)


def test_em_never_lowers_the_likelihood():
    seen = StateObservations.of(random_looks(60, seed=3))
    for likelihood, noise in (
        (PanelLikelihood(seen), LabelNoise.fixed(seen.meaning)),
        (HiddenLikelihood(seen), LabelNoise.uniform(seen.meaning, 0.2)),
        (HiddenLikelihood(seen), LabelNoise.confusion(seen.meaning, start=0.2)),
    ):
        found = maximise_likelihood(likelihood, JumpParameters(THREE, noise, LAW), em_steps=25, max_iterations=0)
        assert np.all(np.diff(found.history) >= -1e-9 * abs(found.history[0]))
        again = maximise_likelihood(likelihood, JumpParameters(THREE, noise, LAW))
        assert again.history[-1] >= found.history[-1] - 1e-6


@pytest.fixture(scope="module")
def heart() -> pd.DataFrame:
    folder = os.environ.get("GENDYN_DATA")
    if folder is None or not (Path(folder) / "mjp" / "cav.csv").exists():
        pytest.skip("the heart-transplant panel (cav.csv of the R package msm) is not in $GENDYN_DATA/mjp")
    return pd.read_csv(Path(folder) / "mjp" / "cav.csv")


def panel(table: pd.DataFrame, unit: float = 1.0) -> Paths:
    shifted = table.assign(state=table["state"] - 1, years=table["years"] * unit)
    return read_paths(shifted, id_key="PTNUM", time_key="years", values=["state"])


HEART = [[0, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]


def test_heart_transplants_have_the_likelihood_of_msm(heart):
    rates = torch.tensor(
        [[-0.5, 0.25, 0, 0.25], [0.166, -0.498, 0.166, 0.166], [0, 0.25, -0.5, 0.25], [0] * 4], dtype=torch.float64
    )
    law, eye = torch.full((4,), 0.25, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    for entry, value in (((), 4833.0064064), ((3,), 4908.8167684)):
        seen = StateObservations.of(panel(heart), entry=entry)
        assert -2 * PanelLikelihood(seen).value(rates, eye, law) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("unit", [1.0, 3.15576e7], ids=["years", "seconds"])
def test_heart_transplants_have_the_fit_of_msm_without_start_values(heart, unit):
    model = MarkovJumpModel("em", noise=0, allowed=HEART, entry=(3,)).fit(panel(heart, unit), progress=False)
    # The density of an exact time depends on its unit, once for every death.
    deaths = int((heart["state"] == 4).sum())
    assert -2 * (model.log_likelihood_ + deaths * np.log(unit)) == pytest.approx(3968.79788, abs=0.01)
    fitted = [0.12787, 0.04249, 0.22510, 0.34260, 0.04027, 0.13062, 0.30646]
    q = model.rate_matrix_ * unit
    found = [q[i, j].item() for i, j in ((0, 1), (0, 3), (1, 0), (1, 2), (1, 3), (2, 1), (2, 3))]
    assert found == pytest.approx(fitted, abs=2e-4)
    errors = [model._fitted.errors[i, j].item() for i, j in ((0, 1), (0, 3), (1, 0), (1, 2), (1, 3), (2, 1), (2, 3))]
    assert errors == pytest.approx([0.0706, 0.1121, 0.1507, 0.1155, 0.6471, 0.2533, 0.1285], rel=0.02)


def test_heart_transplants_with_misclassified_stages(heart):
    onward = [[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    confused = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    model = MarkovJumpModel(
        "em", noise="confusion", allowed=onward, confused=confused, entry=(3,), initial=[1.0, 0.0, 0.0, 0.0]
    ).fit(panel(heart), progress=False)
    assert -2 * model.log_likelihood_ == pytest.approx(3951.8292, abs=0.01)
    assert model.emission_[3].tolist() == [0, 0, 0, 1]


def test_forbidden_transitions_are_named(heart):
    with pytest.raises(ValueError, match="44 transitions from state 0 to 2 were seen"):
        MarkovJumpModel("em", noise=0, allowed=[[0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1], [0] * 4]).fit(panel(heart))


def test_the_sampler_draws_what_the_likelihood_expects():
    """Rates are found again from many paths of the process."""
    truth = gendyn.systems.FlashingRatchet()
    paths = gendyn.sample(truth, truth.initial(3000, seed=0), truth.times, seed=0)
    model = MarkovJumpModel("em", noise=0).fit(paths, progress=False)
    # The error of 3000 paths is about .028 (information of complete paths).
    assert (model.rate_matrix_ - truth.matrix()).square().sum().div(30).sqrt() < 0.06
