"""Many sounds: in files, folders and memory; batches, failures, resumption."""

import itertools
import json
import os
import pickle
import time

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import torch

from hear_axlstm import embed, embedder
from hear_axlstm.audio import read_audio
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.files import encode, open_folder, outcomes, plan, sink
from hear_axlstm.files.settings import read_settings
from hear_axlstm.files.write import ParquetFolder
from tests.conftest import noise, tone
from tests.tolerances import BATCH_MATES

NAMES = ["a.wav", "b.flac", "below/c.ogg"]


@pytest.fixture
def model(golden):
    return golden("ssast").model()


def scenes(folder):
    return {path.relative_to(folder).as_posix(): np.load(path) for path in folder.rglob("*.embedding.npy")}


def parquet_rows(folder):
    tables = [pyarrow.parquet.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


# In memory


def test_an_iterator_of_sounds_is_a_list_of_them(model, sound_folder):
    waves = [tone(440, 0.7), noise(32_000).numpy()]
    assert embed(iter(waves), model, sample_rate=SAMPLE_RATE).embedded == ["0", "1"]
    assert sorted(embed((path for path in [sound_folder]), model).embedded) == NAMES


def test_a_name_that_is_no_text_is_that_files_own_affair(model, sound_folder):
    (sound_folder / os.fsdecode(b"bad\xff.wav")).write_bytes((sound_folder / "a.wav").read_bytes())
    result = embed([sound_folder], model)
    assert set(NAMES) <= set(result.embedded)
    assert len(result.embedded) + len(result.failures) == 4


def test_arrays_and_files_give_what_the_hear_functions_give(model, sound_folder):
    waves = [tone(440, 0.7), noise(32_000).numpy(), noise(5_000, seed=1)]
    result = embed(waves, model, sample_rate=SAMPLE_RATE)
    assert result.embedded == ["0", "1", "2"]
    assert result.failures == {}
    with torch.no_grad():
        for wave, embedding in zip(waves, result.embeddings, strict=True):
            expected = model(torch.as_tensor(wave)[None])[0]
            np.testing.assert_allclose(embedding, expected, rtol=0, atol=BATCH_MATES)
    from_files = embed([sound_folder], model)
    assert from_files.embedded == NAMES
    samples, _ = soundfile.read(sound_folder / "a.wav", dtype="float32")
    np.testing.assert_allclose(
        from_files.embeddings[0], embed([(samples, SAMPLE_RATE)], model).embeddings[0], rtol=0, atol=BATCH_MATES
    )


def test_timestamps_stop_where_each_clip_stops(model):
    result = embed([tone(440, 0.7), tone(440, 2.3)], model, sample_rate=SAMPLE_RATE, timestamps=True)
    assert all(array.base is None for array in [*result.embeddings, *result.timestamps])  # the padding is let go
    assert [len(times) for times in result.timestamps] == [18, 58]
    assert [e.shape for e in result.embeddings] == [(18, 240), (58, 240)]
    assert all(np.isfinite(times).all() for times in result.timestamps)


def test_arrays_at_another_rate_are_resampled(model):
    low, high = (
        embed([tone(440, 2)], model, sample_rate=SAMPLE_RATE),
        embed([tone(440, 2, 48_000)], model, sample_rate=48_000),
    )
    np.testing.assert_allclose(low.embeddings[0], high.embeddings[0], atol=0.1)


def test_one_bad_array_does_not_stop_the_others(model):
    waves = [tone(440, 0.7), np.zeros(3), 1e30 * tone(440, 0.7), 5.0, np.zeros((9, 9_000)), tone(330, 0.7)]
    result = embed(waves, model, sample_rate=SAMPLE_RATE)
    assert result.embedded == ["0", "5"]
    assert [one is not None for one in result.embeddings] == list(result.ok) == [True, False, False, False, False, True]
    assert set(result.failures) == {"1", "2", "3", "4"}
    assert "too large to analyse" in result.failures["2"]


def test_nothing_to_do(model):
    assert embed([], model).embedded == []


@pytest.mark.parametrize(
    ("sounds", "options", "message"),
    [
        ([np.zeros(9)], {"out": "x", "sample_rate": 9}, "embed them without out"),
        ([noise(9_000)], {}, "sound 0 is an array, and nothing says at which sample rate"),
        (["a.wav", np.zeros(9)], {}, r"sound 1 is an array.*embed\(clips, sample_rate=16_000\)"),
        (np.zeros((2, 9)), {"sample_rate": 9}, r"shape \(2, 9\), one sound or many; pass \[sound\] .*list\(batch\)"),
        (([np.zeros(9), np.zeros(9)], 16_000), {}, "a pair of a list and a rate"),
        (5, {}, "sounds is of type int; expected a file"),
        ({"one": "a.wav"}, {}, "sounds is of type dict; expected a file"),
        (["a.wav"], {"model": 5}, "model is a int; expected a name"),
        ([], {"device": "meta"}, "the model is on cpu, device is meta"),
        ([], {"out": "q.npy"}, "q.npy is called like a file"),
        ([0.1, -0.2, 0.3], {}, "a list of numbers"),
        ([], {"format": "csv"}, "expected one of 'npy', 'parquet'"),
        ([], {"batch_seconds": 0}, "positive number of seconds"),
        ([np.zeros(9)], {"sample_rate": 0}, "positive number of Hz"),
        ([np.zeros(9)] * 2, {"sample_rate": [9, 8]}, r"sample_rate is \[9, 8\]; .*pairs \(samples, rate\) give each sound"),
        ([], {"workers": -1}, "0 or more processes"),
    ],
)
def test_bad_options_are_refused(model, sounds, options, message):
    with pytest.raises(ConfigError, match=message):
        embed(sounds, **({"model": model} | options))


# Batches


def test_out_of_memory_halves_the_batch_of_clips(model, monkeypatch):
    whole = embed([noise(9_000 + 999 * i, seed=i) for i in range(7)], model, sample_rate=SAMPLE_RATE)
    spectrogram, sizes = embedder.log_mel, []

    def small_card(audio, lengths):
        sizes.append(len(audio))
        if len(audio) > 2 or max(lengths) == 9_000 + 999 * 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return spectrogram(audio, lengths)

    monkeypatch.setattr(embedder, "log_mel", small_card)
    result = embed([noise(9_000 + 999 * i, seed=i) for i in range(7)], model, sample_rate=SAMPLE_RATE)
    assert sizes[0] == 7
    assert result.failures == {"6": "out of memory for this clip alone"}
    for ours, expected in zip(result.embeddings[:6], whole.embeddings, strict=False):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=BATCH_MATES)


@pytest.mark.parametrize("timestamps", [False, True])
def test_results_fetched_a_batch_late_are_the_same(model, monkeypatch, timestamps):
    """As on CUDA, where the next batch is under way by then; failures, too, belong to the clips that they come from."""
    waves = [noise(9_000 + 999 * i, seed=i).numpy() for i in range(7)]
    waves[3] = waves[3] * 1e30
    waves[4] = waves[4][:9]
    expected = embed(waves, model, timestamps=timestamps, batch_seconds=2, sample_rate=SAMPLE_RATE)
    launched, fetched = [], []
    spectrogram, rows = embedder.log_mel, outcomes._rows
    monkeypatch.setattr(embedder, "log_mel", lambda audio, n: [launched.append(len(audio)), spectrogram(audio, n)][1])
    monkeypatch.setattr(outcomes, "_rows", lambda *arguments: [fetched.append(sum(launched)), rows(*arguments)][1])
    monkeypatch.setitem(outcomes.BATCHES_LATE, "cpu", 1)
    late = embed(waves, model, timestamps=timestamps, batch_seconds=2, sample_rate=SAMPLE_RATE)
    assert launched[0] < fetched[0]  # clips
    assert late.embedded == expected.embedded == ["0", "1", "2", "5", "6"]
    assert late.failures == expected.failures
    assert set(late.failures) == {"3", "4"}
    for ours, theirs in zip(late[late.ok].embeddings, expected[expected.ok].embeddings, strict=True):
        assert np.array_equal(ours, theirs)


def test_the_time_that_a_call_took_is_accounted_for(model, sound_folder, tmp_path, monkeypatch):
    now = itertools.count()
    monkeypatch.setattr("hear_axlstm.files.run.perf_counter", lambda: next(now))
    result = embed([sound_folder], model, out=tmp_path / "out")
    assert list(result.seconds) == ["prepare", "decode", "encode", "write"]
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert sum(result.seconds.values()) == next(now) - 1
    assert result.audio_seconds == pytest.approx(1.3 + 2.1 + 0.6)


# Processes that decode


def test_processes_decode_as_this_one_does(model, sound_folder, tmp_path):
    (sound_folder / "broken.wav").write_bytes(b"RIFF nothing")
    header = (sound_folder / "b.flac").read_bytes()[:9_000]
    (sound_folder / "cut.flac").write_bytes(header)
    absent = tmp_path / "absent.wav"
    expected, ours = (embed([sound_folder, absent], model, workers=workers) for workers in (0, 2))
    assert ours.embedded == expected.embedded
    assert set(ours.failures) == {"absent.wav", "broken.wav", "cut.flac"}
    assert ours.failures == expected.failures
    assert np.array_equal(ours.matrix, expected.matrix, equal_nan=True)


def test_a_file_that_crashes_its_decoder_does_not_stop_the_others(model, sound_folder, tmp_path, monkeypatch):
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec" / "sitecustomize.py").write_text(
        "import os, signal, soundfile\n"
        "class SoundFile(soundfile.SoundFile):\n"
        "    def __init__(self, file, **options):\n"
        "        if os.readlink(f'/proc/self/fd/{file}').endswith('b.flac'): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        super().__init__(file, **options)\n"
        "soundfile.SoundFile = SoundFile\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "codec")  # this process has started without it
    result = embed([sound_folder], model, out=tmp_path / "out", workers=1)
    assert result.embedded == ["a.wav", "below/c.ogg"]
    assert result.failures == {"b.flac": "cannot be decoded (the process that tried ended with SIGSEGV)"}
    assert set(scenes(tmp_path / "out")) == {"a.wav.embedding.npy", "below/c.ogg.embedding.npy"}


# Layers


@pytest.mark.parametrize(("layers", "count"), [(1, 1), ([0, -1], 2), ("all", 5)])
@pytest.mark.parametrize("timestamps", [False, True])
def test_layers_give_a_leading_dimension_everywhere(model, sound_folder, tmp_path, layers, count, timestamps):
    options = {"timestamps": timestamps, "layers": layers}
    in_memory = embed([sound_folder], model, **options)
    assert model.encoder.config.depth == 3
    for index, name in enumerate(NAMES):
        wave = torch.from_numpy(read_audio(sound_folder / name).copy())[None]
        with torch.no_grad():
            expected = model.timestamps(wave, layers=layers)[0] if timestamps else model(wave, layers=layers)
        ours = in_memory.embeddings[index]
        assert len(ours) == count
        np.testing.assert_allclose(ours, expected[:, 0], rtol=0, atol=BATCH_MATES)
    embed([sound_folder], model, out=tmp_path / "npy", **options)
    embed([sound_folder], model, out=tmp_path / "parquet", format="parquet", **options)
    rows = parquet_rows(tmp_path / "parquet")
    for index, name in enumerate(NAMES):
        ours = in_memory.embeddings[index]
        assert np.array_equal(np.load(tmp_path / "npy" / f"{name}.embedding.npy"), ours)
        mine = np.array([row["embedding"] for row in rows if row["name"] == name], dtype=np.float32)
        assert np.array_equal(np.moveaxis(mine, 0, 1) if timestamps else mine[0], ours)


def test_a_folder_keeps_to_its_layers(model, sound_folder, tmp_path):
    embed([sound_folder], model, out=tmp_path, layers=[1, -1])
    assert embed([sound_folder], model, out=tmp_path, layers=[1, 4]).skipped == NAMES
    for others in (None, [1], "all", [4, 1]):
        with pytest.raises(OutputError, match=r"--layers was 1,4 and is"):
            embed([sound_folder], model, out=tmp_path, layers=others)
    with pytest.raises(ConfigError, match="layers is 9; expected 'all' or numbers from 0"):
        embed([sound_folder], model, out=tmp_path / "new", layers=9)
    assert not (tmp_path / "new").exists()


# A cluster


@pytest.mark.parametrize("options", [{}, {"timestamps": True, "layers": [0, 1]}])
def test_plan_encode_and_sink_do_what_embed_does(model, sound_folder, tmp_path, options):
    (sound_folder / "broken.wav").write_bytes(b"RIFF nothing")
    (sound_folder / "cut.flac").write_bytes((sound_folder / "b.flac").read_bytes()[:9_000])
    expected = embed([sound_folder], model, out=tmp_path / "embed", batch_seconds=3, **options)
    folder = open_folder(tmp_path / "parts", model, **options)
    planned = plan([sound_folder], batch_seconds=3, is_done=folder.is_done)
    assert len(planned.batches) == 3
    sent = pickle.loads(pickle.dumps(planned.batches))
    encoded = pickle.loads(pickle.dumps([encode(batch, model, **options) for batch in sent]))
    done = list(sink(itertools.chain.from_iterable(encoded), folder))
    assert planned.failures | {outcome.name: outcome.failure for outcome in done if outcome.failure} == expected.failures
    assert set(expected.failures) == {"broken.wav", "cut.flac"}
    assert sorted(outcome.name for outcome in done if not outcome.failure) == NAMES
    theirs, ours = scenes(tmp_path / "embed"), scenes(tmp_path / "parts")
    assert theirs.keys() == ours.keys()
    assert all(np.array_equal(theirs[name], ours[name]) for name in theirs)
    assert (tmp_path / "embed" / "_embed.json").read_bytes() == (tmp_path / "parts" / "_embed.json").read_bytes()
    assert plan([sound_folder], is_done=folder.is_done).skipped == NAMES


# Folders


@pytest.mark.parametrize("timestamps", [False, True])
def test_npy_files_are_named_as_hear_eval_kit_names_them(model, sound_folder, tmp_path, timestamps):
    result = embed([sound_folder], model, out=tmp_path / "out", timestamps=timestamps)
    assert result.embedded == NAMES
    assert result.embeddings == []
    in_memory = embed([sound_folder], model, timestamps=timestamps)
    for index, name in enumerate(NAMES):
        assert np.array_equal(np.load(tmp_path / "out" / f"{name}.embedding.npy"), in_memory.embeddings[index])
        times = tmp_path / "out" / f"{name}.timestamps.json"
        assert times.exists() == timestamps
        if timestamps:
            assert json.loads(times.read_text()) == in_memory.timestamps[index].tolist()
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize("timestamps", [False, True])
def test_parquet_holds_the_same(model, sound_folder, tmp_path, timestamps):
    embed([sound_folder], model, out=tmp_path / "out", timestamps=timestamps, format="parquet")
    in_memory = embed([sound_folder], model, timestamps=timestamps)
    rows = parquet_rows(tmp_path / "out")
    for index, name in enumerate(NAMES):
        mine = [row for row in rows if row["name"] == name]
        vectors = np.array([row["embedding"] for row in mine], dtype=np.float32)
        assert np.array_equal(vectors, np.atleast_2d(in_memory.embeddings[index]))
        assert [row.get("timestamp_ms") for row in mine] == (in_memory.timestamps[index].tolist() if timestamps else [None])


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_a_second_run_does_what_is_missing_or_has_changed(model, sound_folder, tmp_path, format):
    run = lambda: embed([sound_folder], model, out=tmp_path / "out", format=format)  # noqa: E731
    assert run().embedded == NAMES
    again = run()
    assert (again.embedded, again.skipped) == ([], NAMES)
    soundfile.write(sound_folder / "new.wav", tone(100, 1), SAMPLE_RATE)
    assert run().embedded == ["new.wav"]
    soundfile.write(sound_folder / "a.wav", tone(999, 1.3), SAMPLE_RATE)
    os.utime(sound_folder / "a.wav", (time.time() + 5, time.time() + 5))
    assert run().embedded == ["a.wav"]
    (expected,) = embed([sound_folder / "a.wav"], model).embeddings
    if format == "npy":
        held = scenes(tmp_path / "out")["a.wav.embedding.npy"]
    else:
        (held,) = [row["embedding"] for row in parquet_rows(tmp_path / "out") if row["name"] == "a.wav"]
    np.testing.assert_allclose(held, expected, rtol=0, atol=BATCH_MATES)


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_an_interrupted_run_is_taken_up_again(model, sound_folder, tmp_path, format, monkeypatch):
    spectrogram, calls = embedder.log_mel, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return spectrogram(*arguments)

    monkeypatch.setattr(embedder, "log_mel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed([sound_folder], model, out=tmp_path / "out", format=format, batch_seconds=0.1)
    monkeypatch.setattr(embedder, "log_mel", spectrogram)
    result = embed([sound_folder], model, out=tmp_path / "out", format=format)
    assert len(result.skipped) == 2
    assert len(result.embedded) == 1


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_other_weights_or_settings_are_refused_unless_told(golden, model, sound_folder, tmp_path, format):
    out = tmp_path / "out"
    embed([sound_folder], model, out=out, format=format)
    other = golden("ssast").model()
    with torch.no_grad():
        other.encoder.cls_token += 0.1
    with pytest.raises(OutputError, match=r"other settings: the weights were others"):
        embed([sound_folder], other, out=out, format=format)
    with pytest.raises(OutputError, match="each embedding was of a scene and is of a timestamp now"):
        embed([sound_folder], model, out=out, format=format, timestamps=True)
    with pytest.raises(OutputError, match="--layout was released and is time now"):
        embed([sound_folder], golden("ssast").model(layout="time"), out=out, format=format)
    with pytest.raises(OutputError, match="--format was"):
        embed([sound_folder], model, out=out, format="npy" if format == "parquet" else "parquet")
    (out / "mine.txt").write_text("keep me")
    result = embed([sound_folder], model, out=out, format=format, timestamps=True, overwrite=True)
    assert result.embedded == NAMES
    assert (out / "mine.txt").exists()
    assert read_settings(out)["embeddings"] == "timestamp"
    if format == "npy":
        assert all(array.ndim == 2 for array in scenes(out).values())


def test_embeddings_of_unknown_origin_are_not_continued(model, sound_folder, tmp_path):
    np.save(tmp_path / "old.wav.embedding.npy", np.zeros(3))
    with pytest.raises(OutputError, match=r"no _embed\.json"):
        embed([sound_folder], model, out=tmp_path)
    (tmp_path / "_embed.json").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        embed([sound_folder], model, out=tmp_path)


def test_a_folder_that_cannot_be_written_is_told(model, sound_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        embed([sound_folder], model, out=tmp_path / "file")


def test_a_damaged_parquet_part_is_set_aside_and_its_sounds_are_embedded_again(model, sound_folder, tmp_path, caplog):
    embed([sound_folder], model, out=tmp_path / "out", format="parquet")
    part = next((tmp_path / "out").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-50])
    again = embed([sound_folder], model, out=tmp_path / "out", format="parquet")
    assert again.embedded == NAMES
    assert [row["name"] for row in parquet_rows(tmp_path / "out")].count("a.wav") == 1
    assert [path.name for path in (tmp_path / "out.damaged").iterdir()] == [part.name]
    assert "is damaged" in caplog.text


def test_parquet_parts_are_written_as_they_fill(model, sound_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("hear_axlstm.files.parquet.FLUSH_ROWS", 2)
    embed([sound_folder], model, out=tmp_path / "out", format="parquet")
    parts = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    assert [part[: len("embeddings-00000")] for part in parts] == ["embeddings-00000", "embeddings-00001"]
    assert {row["name"] for row in parquet_rows(tmp_path / "out")} == set(NAMES)


def test_parquet_without_pyarrow_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(OutputError, match=r"hear-axlstm\[parquet\]"):
        ParquetFolder(tmp_path, {})
