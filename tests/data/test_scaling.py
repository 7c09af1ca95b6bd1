"""Scaling against NumPy."""

import numpy as np
import pytest
import torch

from gendyn.data import Scaling, Snapshots

DATA = np.random.default_rng(0).normal([1.0, -50.0, 1e4], [2.0, 0.5, 10.0], size=(1000, 3))


def snapshots(dtype=np.float64):
    return Snapshots([0.0, 1.0, 2.0], [DATA[:100].astype(dtype), DATA[100:600].astype(dtype), DATA[600:].astype(dtype)])


def test_whitening_is_that_of_all_rows_together():
    scaling = Scaling.fit(snapshots(), "whiten")
    torch.testing.assert_close(scaling.shift, torch.from_numpy(DATA.mean(0)))
    torch.testing.assert_close(scaling.scale, torch.from_numpy(DATA.std(0)))
    z = scaling.transform(torch.from_numpy(DATA))
    np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-10)
    np.testing.assert_allclose(z.std(0, unbiased=False), 1.0)


def test_global_scaling_keeps_the_geometry():
    scaling = Scaling.fit(snapshots(), "global")
    assert scaling.scale.unique().tolist() == pytest.approx([DATA.std(0).max()])
    x = torch.from_numpy(DATA[:20])
    torch.testing.assert_close(
        torch.cdist(scaling.transform(x), scaling.transform(x)) * scaling.scale[0], torch.cdist(x, x)
    )
    assert Scaling.fit(snapshots()).scale.tolist() == scaling.scale.tolist()


def test_none_does_nothing():
    x = torch.from_numpy(DATA)
    assert torch.equal(Scaling.fit(snapshots(), "none").transform(x), x)


@pytest.mark.parametrize("method", ["global", "whiten", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(method, dtype):
    x = torch.from_numpy(DATA).to(dtype)
    scaling = Scaling.fit(x, method)
    assert scaling.shift.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(scaling.inverse(scaling.transform(x)), x, rtol=tolerance, atol=tolerance)
    velocity = (scaling.transform(x + 1e-3) - scaling.transform(x)).to(torch.float64)
    if dtype == torch.float64:
        expected = torch.full_like(velocity, 1e-3)
        torch.testing.assert_close(scaling.inverse_velocity(velocity), expected, rtol=1e-6, atol=1e-9)


def test_data_far_from_the_origin_keep_their_variance():
    x = torch.from_numpy(DATA[:, :1] + 1e7).to(torch.float64)
    assert Scaling.fit(x, "whiten").scale.item() == pytest.approx(DATA[:, 0].std(), rel=1e-6)
    single = torch.from_numpy(DATA[:, 2:]).to(torch.float32)
    assert Scaling.fit(single, "whiten").scale.item() == pytest.approx(DATA[:, 2].std(), rel=1e-4)


def test_constant_features_are_centred_only():
    x = torch.from_numpy(DATA.copy())
    x[:, 1] = 0.1
    with pytest.warns(UserWarning, match="1 features are constant and are centred only: 1; leave them out"):
        scaling = Scaling.fit(x, "whiten")
    assert scaling.scale[1] == 1.0
    assert scaling.transform(x)[:, 1].abs().max() < 1e-12
    with pytest.warns(UserWarning, match="centred only: b"):
        Scaling.fit(Snapshots([0.0], [x], names=["a", "b", "c"]), "whiten")
    assert Scaling.fit(torch.ones(5, 2), "global").scale.tolist() == [1.0, 1.0]


def test_state_comes_back():
    scaling = Scaling.fit(snapshots(), "whiten")
    again = Scaling.from_state(scaling.state_dict())
    assert torch.equal(again.shift, scaling.shift)
    assert torch.equal(again.scale, scaling.scale)
    assert scaling.to(dtype=torch.float32).shift.dtype == torch.float32
    assert repr(Scaling(torch.zeros(2), torch.tensor([0.5, 2.0]))) == "Scaling(2 features, scale 0.5 to 2)"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Scaling.fit(snapshots(), "standard"), "scale must be one of global, whiten, none; got 'standard'"),
        (lambda: Scaling.fit(torch.ones(3)), r"rows of shape \(n, d\); got \(3,\)"),
        (lambda: Scaling.fit(torch.ones(0, 3)), r"rows of shape \(n, d\); got \(0, 3\)"),
        (lambda: Scaling.fit(torch.tensor([[np.nan]])), "rows must be finite"),
        (lambda: Scaling(torch.zeros(2), torch.ones(3)), r"one shape \(d,\); got \(2,\) and \(3,\)"),
        (lambda: Scaling(torch.zeros(2), torch.tensor([1.0, 0.0])), "scale must be positive in every feature; got 0"),
        (lambda: Scaling(torch.tensor([np.inf]), torch.ones(1)), "shift must be finite"),
    ],
)
def test_what_cannot_be_a_scaling_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
