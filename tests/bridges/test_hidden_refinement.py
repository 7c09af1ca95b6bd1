"""References with hidden coordinates are learned by the filtered likelihood, and parameters can be held."""

from __future__ import annotations

import pytest
import torch

import gendyn as gd
from gendyn.bridges.lifted import LiftedBridge, lifted_log_densities
from gendyn.bridges.marginals import Marginals

RING = gd.systems.ProteinRepressilator()


def messengers(n=15):
    whole = gd.systems.simulate_snapshots(RING, [0.0, 0.6, 1.2], n, step=0.01)
    return gd.Snapshots(whole.times, [x[:, :3] for x in whole.samples])


def partly(**options):
    family = gd.references.ProteinRepressilator(
        leak=1e-5, threshold=1.0, hill=3.0, decay=1.0, translation=1.0, protein_decay=1.0, **options
    )
    return gd.references.PartlyObserved(family, hidden_mean=0.05, hidden_scale=0.03)


def test_densities_are_the_filtered_ones():
    data, given = messengers(), partly()
    reference = given.process.start(data)
    marginals = Marginals.of(data, 4, lambda process: given.around(process, 3))
    found = marginals.log_densities(reference)
    lifted = given.around(reference, 3)
    expected = list(lifted_log_densities(lifted, marginals.samples, marginals.times, marginals.weights, 4))
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one, two)
    sum(part.mean() for part in found).backward()
    assert reference.raw["production"].grad != 0


def test_a_hidden_parameter_is_learned_while_others_are_held(tmp_path):
    held = ("leak", "threshold", "hill", "decay", "translation", "protein_decay")
    model = gd.ReferenceRefinement(partly(production=6.0, fixed=held), substeps=4, gradient_steps=8)
    model.fit(messengers(), progress=False)
    assert isinstance(model.bridge_, LiftedBridge)
    values = model.parameters_.set_index("parameter")["value"]
    assert values["production"] == pytest.approx(10.0, rel=0.1)
    for name in held:
        assert values[name] == pytest.approx(getattr(partly().process, name), rel=1e-9)
    assert model.sample(times=[0.0, 0.7], n=5, hidden=True).values.shape == (5, 2, 6)
    model.save(tmp_path / "model.safetensors")
    again = gd.load(tmp_path / "model.safetensors")
    assert torch.equal(again.interpolate(0.7, 9), model.interpolate(0.7, 9))


def test_errors():
    data = messengers(6)
    with pytest.raises(ValueError, match="has no parameter 'pace' that could be fixed; it has decay"):
        partly(fixed=("pace",)).process.start(data)
    with pytest.raises(ValueError, match="learned by method='pushforward' alone"):
        gd.ReferenceRefinement(partly(), method="coupling_em").fit(data, progress=False)
    with pytest.raises(ValueError, match="give gendyn.references.PartlyObserved around it"):
        gd.ReferenceRefinement(partly().process).fit(data, progress=False)
    with pytest.raises(TypeError, match="holds a family of gendyn.references; got ProteinRepressilator"):
        gd.ReferenceRefinement(gd.references.PartlyObserved(RING)).fit(data, progress=False)
    with pytest.raises(TypeError, match="is a family, whose parameters are to be learned"):
        gd.SchrodingerBridge(partly()).fit(data, progress=False)


def test_noise_that_is_held_cannot_be_chosen():
    generator = torch.Generator().manual_seed(0)
    data = gd.Snapshots([0.0, 1.0, 2.0], [torch.randn(20, 2, generator=generator) for _ in range(3)])
    family = gd.references.Linear(fixed=("sigma",))
    with pytest.raises(ValueError, match="sigma='held-out' would choose it"):
        gd.ReferenceRefinement(family, sigma="held-out").fit(data, progress=False)
