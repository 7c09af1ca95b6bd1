"""Files of models of series that lack what this version reads: a sentence says so, and what to do."""

from __future__ import annotations

import pytest
import torch

import gendyn as gd
from gendyn.data import read_tensors, write_tensors


def waves(n=24, length=20):
    t = torch.linspace(0, 6.28, length)
    return torch.stack([torch.sin((1 + k % 2) * t + 0.3 * k) for k in range(n)])


MODELS = {
    "classifier": lambda: gd.StableSDEClassifier(hidden=4, epochs=1, step=1 / 4),
    "forecaster on a ridge": lambda: gd.StableSDEForecaster(2, hidden=4, epochs=1, step=1 / 4),
    "forecaster on kernels": lambda: gd.StableSDEForecaster(2, start="kernel", hidden=4, epochs=1, step=1 / 4),
    "interpolator": lambda: gd.StableSDEInterpolator(hidden=4, epochs=1, step=1 / 4),
    "neural CDE": lambda: gd.NeuralCDEClassifier(hidden=4, epochs=1, step=1 / 4),
    "GRU-D": lambda: gd.GRUClassifier("gru-d", hidden=4, epochs=1),
    "mTAN": lambda: gd.MTANClassifier(hidden=4, epochs=1),
    "GRU-ODE-Bayes": lambda: gd.GRUODEBayes(hidden=4, epochs=1),
    "latent SDE": lambda: gd.LatentSDE(hidden=4, epochs=1),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_that_an_older_version_did_not_write_is_named(name, tmp_path):
    x, model = waves(), MODELS[name]()
    labels = {"y": [k % 2 for k in range(len(x))]} if hasattr(model, "predict_proba") else {}
    model.fit(x, **labels, progress=False)
    file = tmp_path / "model.safetensors"
    model.save(file)
    tensors, header = read_tensors(file)
    told = "fit the model anew and save it, or load it with the version that wrote it"
    # Of entries of one kind the last.
    for lacking in {(key.split(".")[0], key.split(".")[-1]): key for key in tensors}.values():
        write_tensors(file, {key: value for key, value in tensors.items() if key != lacking}, header)
        last = lacking.split(".")[-1]
        with pytest.raises(ValueError, match=told) as found:
            gd.load(file)
        assert last in str(found.value)
    extra = header["extra"]["dict"]
    for lacking in extra:
        less = {key: value for key, value in extra.items() if key != lacking}
        write_tensors(file, tensors, header | {"extra": {"dict": less}})
        with pytest.raises(ValueError, match=f"no entry '{lacking}'.*{told}"):
            gd.load(file)


def test_a_hyper_parameter_that_there_is_no_more_is_named(tmp_path):
    file = tmp_path / "model.safetensors"
    MODELS["classifier"]().fit(waves(), [0, 1] * 12, progress=False).save(file)
    tensors, header = read_tensors(file)
    more = {"dict": header["parameters"]["dict"] | {"momentum": 0.9}}
    write_tensors(file, tensors, header | {"parameters": more, "gendyn": "0.0.1"})
    with pytest.raises(ValueError, match="no parameter 'momentum'.*written by gendyn 0.0.1: fit the model anew"):
        gd.load(file)
