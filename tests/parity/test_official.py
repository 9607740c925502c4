"""Equality with the released code, stage by stage, on every golden case."""

import pytest
import torch

from hear_axlstm.config import HOP
from hear_axlstm.frontend import log_mel
from hear_axlstm.patches import scene_steps, steps_from_tokens
from hear_axlstm.pretraining.objective import reconstruction_loss
from tests.conftest import CASES
from tests.tolerances import FLOAT32_MOST_VALUES, FLOAT32_VS_RELEASED, FLOAT32_WORST_VALUE, FLOAT64

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def assert_close(case, name, value, dtype):
    truth, released = case.truth[name], case.released_error[name]
    errors = (value.double() - truth.double()).abs().flatten()
    if dtype == torch.float64:
        assert errors.max() <= FLOAT64
        return
    # The truth itself was rounded to float32, and a loss is, too: at magnitude 1 that is as large as the released error.
    stored = torch.finfo(torch.float32).eps / (2 if truth.ndim else 1) * truth.abs().max()
    if name in ("features", "pred"):
        assert errors.quantile(0.999) <= FLOAT32_MOST_VALUES * released
        assert errors.max() <= FLOAT32_WORST_VALUE * released + stored
    else:
        assert errors.max() <= FLOAT32_VS_RELEASED * released + stored


@BOTH
def test_log_mel(golden_inputs, dtype):
    mel = log_mel(golden_inputs["audio.51360"].to(dtype))
    error = (mel - golden_inputs["logmel.51360"][:, 0]).abs().max().item()
    assert error <= (FLOAT64 if dtype == torch.float64 else 5e-5)  # ln of a float32 power, divided by a std of about 1


@BOTH
@pytest.mark.parametrize("name", CASES)
def test_features_head_and_loss(golden, golden_inputs, name, dtype):
    case = golden(name)
    encoder = case.model().encoder.to(dtype)
    spectrogram, mask = golden_inputs["spectrogram"].to(dtype), case.truth["mask"].to(dtype)
    with torch.no_grad():
        features = steps_from_tokens(encoder(spectrogram), case.config.grid, "released")
        prediction = encoder.reconstruct(spectrogram, mask)
    assert_close(case, "features", features, dtype)
    assert_close(case, "pred", prediction, dtype)
    for over in ("all", "masked"):
        loss = reconstruction_loss(prediction, spectrogram, mask, case.config.patch, over)
        assert_close(case, f"loss_{over}", loss, dtype)


@BOTH
@pytest.mark.parametrize("samples", [51_360, 17_120])
@pytest.mark.parametrize("name", CASES)
def test_scene_embeddings(golden, golden_inputs, name, samples, dtype):
    case = golden(name)
    with torch.no_grad():
        scene = case.model().to(dtype)(golden_inputs[f"audio.{samples}"].to(dtype))
    assert scene.dtype == torch.float32
    assert_close(case, f"scene.{samples}", scene, dtype)


@BOTH
@pytest.mark.parametrize("name", CASES)
def test_every_step_of_a_clip(golden, golden_inputs, name, dtype):
    """The released code's timestamp embeddings: all steps in the released layout, the last chunk trimmed."""
    case = golden(name)
    columns = case.config.grid[0]
    mel = log_mel(golden_inputs["audio.51360"].to(dtype))
    assert mel.shape[1] == 51_360 // HOP + 1
    padded = torch.nn.functional.pad(mel, (0, 0, 0, -mel.shape[1] % 200)).unflatten(1, (-1, 200))
    with torch.no_grad():
        tokens = case.model().encoder.to(dtype)(padded.flatten(0, 1))
    steps = steps_from_tokens(tokens, case.config.grid, "released").unflatten(0, padded.shape[:2]).flatten(1, 2)
    count = scene_steps(51_360, columns)
    assert count == case.facts["counts"]["51360"]
    assert_close(case, "timestamp.51360", steps[:, :count], dtype)
