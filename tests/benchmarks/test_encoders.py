"""The encoders' benchmark: what it measures, what it refuses, and the page of results."""

import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks.encoders import (
    EndToEnd,
    _audio,
    active_encoder,
    end_to_end_table,
    main,
    measure_encoders,
    rates_table,
)
from benchmarks.page import PAGE, page
from hear_axlstm.errors import BackendError, ConfigError
from hear_axlstm.frontend import log_mel

CPU = torch.device("cpu")


def test_rates_of_a_variant_at_two_batch_sizes():
    rates = list(measure_encoders(["ssast-tiny"], [1, 2], CPU, seconds=0.0))
    assert [(rate.variant, rate.batch, rate.precision) for rate in rates] == [
        ("ssast-tiny", 1, "float32"),
        ("ssast-tiny", 2, "float32"),
    ]
    for rate in rates:
        assert rate.chunks_per_second > 0
        assert rate.times_real_time == 2 * rate.from_waveform
        assert rate.deviation <= 1e-4
        assert rate.eager_deviation == 0
        assert rate.peak_mib is None


def test_lower_precision_deviates_and_eager_may_be_left_out():
    (rate,) = measure_encoders(["ssast-tiny"], [1], CPU, precision="bfloat16", eager=False, seconds=0.0)
    assert 1e-4 < rate.deviation < 0.1
    assert rate.eager is None
    assert "| ssast-tiny | 1     | bfloat16" in rates_table([rate])


def test_the_gates_of_the_random_weights_are_at_work():
    """Otherwise a deviation would tell little about the kernels."""
    encoder = active_encoder("axlstm-tiny")
    assert all((block.gates != 0).all() for block in encoder.blocks)
    again = active_encoder("axlstm-tiny")
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))


def test_the_audio_of_a_chunk_is_one_chunk():
    assert log_mel(_audio(1, CPU)[0]).shape[1] == 200


@pytest.mark.parametrize(("variants", "batches"), [(["axlstm-huge"], [1]), (["axlstm-tiny"], [0])])
def test_what_cannot_be_measured_is_refused_at_once(variants, batches):
    with pytest.raises(ConfigError):
        next(measure_encoders(variants, batches, CPU))


def test_a_named_backend_that_cannot_run_is_an_error(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendError):
        next(measure_encoders(["axlstm-tiny"], [1], CPU, backend="triton", seconds=0.0))


def test_the_command_appends_to_a_file_of_results(tmp_path):
    path = tmp_path / "encoders.json"
    command = ["ssast-tiny", "--batch", "1", "--seconds", "0", "--files", "0", "--no-eager", "-o", str(path)]
    for runs in (1, 2):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert "| ssast-tiny | 1     |" in result.output
        records = json.loads(path.read_text())
        assert len(records) == runs
    assert records[-1]["rates"][0]["variant"] == "ssast-tiny"
    assert "threads of" in records[-1]["device"]
    assert CliRunner().invoke(main, ["--batch", "one"]).exit_code == 2


def test_a_run_from_end_to_end_shows_its_stages():
    runs = [EndToEnd("axlstm-tiny", 8, 10.0, 40.0, {"decode": 0.25, "encode": 0.75})]
    assert "25 %   | 75 %" in end_to_end_table(runs)


def test_the_page_of_benchmarks_is_that_of_its_results():
    assert PAGE.read_text() == page(), "run python -m benchmarks.page"
