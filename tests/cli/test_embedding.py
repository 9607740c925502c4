"""The command as a user runs it: outputs, messages, exit codes."""

import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm.audio import containers, read_audio
from hear_axlstm.cli.common import there_already
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.files import find as sounds
from hear_axlstm.pretraining.recipe import recipe_names
from hear_axlstm.progress import several
from tests.conftest import GOLDEN, tone
from tests.tolerances import BATCH_MATES

VARIANT = "ssast-tiny"


@pytest.fixture
def weights(random_weights):
    return random_weights(VARIANT)


def test_embed_in_a_process_of_its_own(sound_folder, weights, tmp_path):
    command = [sys.executable, "-m", "hear_axlstm", "embed", sound_folder, "-o", tmp_path / "out", "--model", weights]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "3 sounds embedded, 0 were there already, 0 failed" in result.stderr
    assert re.search(r"s: \d+\.\d sounds a second, \d+ x real time\n$", result.stderr)
    assert "100%" in result.stderr  # the progress bar
    assert np.load(tmp_path / "out" / "a.wav.embedding.npy").shape == (960,)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stderr == f"nothing to do, 3 were there already: {tmp_path}/out\n"


def test_timestamps_and_parquet(run, sound_folder, weights, tmp_path):
    out = tmp_path / "out"
    assert run("embed", sound_folder, "-o", out, "--model", weights, "--timestamps", "--format", "parquet").exit_code == 0
    assert list(out.glob("embeddings-00000-*.parquet"))


def test_broken_files_are_reported_and_the_others_done(run, sound_folder, weights, tmp_path):
    (sound_folder / "broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(sound_folder / "short.wav", tone(440, 0.01), SAMPLE_RATE)
    result = run("embed", sound_folder, tmp_path / "absent.wav", "-o", tmp_path / "out", "--model", weights)
    assert result.exit_code == 1
    assert "failed: broken.wav: " in result.stderr
    assert "failed: short.wav: " in result.stderr
    assert "failed: absent.wav: " in result.stderr
    assert "3 sounds embedded, 0 were there already, 3 failed" in result.stderr


def test_what_cannot_be_carried_out_exits_with_two(run, sound_folder, weights, tmp_path):
    out = tmp_path / "out"
    for arguments, message in [
        (["embed"], "Missing argument"),
        (["embed", sound_folder], "Missing option"),
        (["embed", sound_folder, "-o", out, "--format", "csv", "--model", weights], "csv"),
        (["embed", tmp_path, "-o", out, "--model", tmp_path / "absent"], "absent: no such file"),
        (
            ["embed", sound_folder, "-o", out, "--model", weights, "--layers", "3;6"],
            "expected all, or numbers such as 3,6,-1",
        ),
        (
            ["embed", sound_folder, "-o", out, "--model", weights, "--layers", "99"],
            "layers is [99]; expected 'all' or numbers",
        ),
        (["embed", sound_folder, "-o", out, "--model", weights, "--device", "tpu9"], "device 'tpu9' cannot be used"),
        (["embed", sound_folder, "-o", out, "--model", VARIANT], f"no weights of {VARIANT}"),
        (["embed", weights.parent, "-o", out, "--model", weights], "no audio files below"),
        (["download", "axlstm-huge"], "no variant is called"),
        (["shards", weights.parent, "-o", out], "no audio files below"),
        (["shards", sound_folder, "-o", out, "--clip-seconds", "1"], "clip_seconds is 1"),
        (["pretrain", "axlstm-huge", "-o", out], "neither a file nor a recipe; there are axlstm-tiny"),
        (["pretrain", "axlstm-tiny", "-o", out], "nothing says how long this run is"),
        (["pretrain", "axlstm-tiny", "-o", out, "--shards", tmp_path / "no"], "no shards at"),
        (["pretrain", "axlstm-tiny", "-o", out, "--steps", "1", "--subset", "2"], "subset is 2"),
        (["synthesize", "applause", "-o", out, "--hours", "1"], "applause"),
        (["probe", weights, "-o", tmp_path / "p", "--tasks", "pitch,smell"], "no task is called 'smell'"),
        (["probe", weights, weights, "-o", tmp_path / "p"], "would both be called"),
        (["convert", GOLDEN / "axlstm_e3_noflip.pth", out], "--flip or --no-flip"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr
    assert not out.exists()


def test_a_folder_with_other_settings_is_refused_unless_told(run, sound_folder, weights, tmp_path):
    command = ["embed", sound_folder, "-o", tmp_path / "out", "--model", weights]
    assert run(*command).exit_code == 0
    refused = run(*command, "--layout", "time")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert run(*command, "--layout", "time", "--overwrite").exit_code == 0


def test_a_full_disk_is_told_and_nothing_is_lost(run, sound_folder, weights, tmp_path, monkeypatch):
    save, calls = np.save, []

    def full(file, array):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(file, array)

    monkeypatch.setattr(np, "save", full)
    command = ["embed", sound_folder, "-o", tmp_path / "out", "--model", weights]
    result = run(*command)
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert "repeat the command" in result.stderr
    monkeypatch.setattr(np, "save", save)
    there = len(list((tmp_path / "out").rglob("*.npy")))
    assert f"{several(3 - there, 'sound')} embedded, {there_already(there)}" in run(*command).stderr


def test_the_folders_are_searched_once_and_other_files_counted(run, sound_folder, weights, tmp_path, monkeypatch):
    for name in ("notes.txt", "speech.Q4A", "below/music.q4a", ".hidden.q4a", "annotations.mat"):
        (sound_folder / name).write_text("not ours")
    below, searched = sounds._audio_below, []
    monkeypatch.setattr(sounds, "_audio_below", lambda folder, *rest: [searched.append(folder), below(folder, *rest)][1])
    result = run("embed", sound_folder, "-o", tmp_path / "out", "--model", weights)
    assert result.exit_code == 0
    assert searched == [sound_folder]
    assert "3 sounds embedded, 0 were there already, 0 failed" in result.stderr
    assert "; 4 other files left out (2 .q4a, 1 .mat, 1 .txt)\n" in result.stderr
    assert "a file left out that is sound is read when you name it, or after ffmpeg -i NAME NAME.flac\n" in result.stderr


def test_without_ffmpeg_they_are_not_overlooked(run, sound_folder, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "is_there", lambda file="": False)
    for name in ("speech.m4a", "below/film.MP4"):
        (sound_folder / name).write_bytes(b"\0\0\0\x20ftypM4A ")
    command = ["embed", sound_folder, "-o", tmp_path / "out", "--model", weights]
    result = run(*command, "--quiet")
    assert result.exit_code == 1
    assert result.stderr.startswith("NOT READ: 2 sounds in folders (1 .mp4, 1 .m4a): ")
    assert "pip install 'hear-axlstm[av]', or apt, brew or conda install ffmpeg" in result.stderr
    named = run(*command[:1], sound_folder / "speech.m4a", *command[2:])
    assert named.exit_code == 1
    assert "failed: speech.m4a: cannot be decoded (Format not recognised.); it is read by PyAV or" in named.stderr


def test_a_folder_without_sound_says_how_to_read_what_is_there(run, weights, tmp_path):
    (tmp_path / "speech.q4a").write_text("not ours")
    result = run("embed", tmp_path, "-o", tmp_path / "out", "--model", weights)
    assert result.exit_code == 2
    assert "1 other file left out (1 .q4a); " in result.stderr
    assert "ffmpeg -i NAME NAME.flac" in result.stderr
    empty = run("embed", "", "-o", tmp_path / "out", "--model", weights)
    assert empty.exit_code == 1
    assert "failed: '': an empty path" in empty.stderr


def test_a_list_may_come_by_stdin(run, sound_folder, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(sound_folder)
    text = "# two\na.wav\nabsent.wav\n"
    command = ["embed", "-", "-o", tmp_path / "out", "--model", weights, "--format", "parquet"]
    result = run(*command, input=text)
    assert result.exit_code == 1
    assert "failed: absent.wav: line 3 of stdin: no such file\n" in result.stderr
    assert "1 sound embedded, 0 were there already, 1 failed" in result.stderr
    again = run(*command, "--retry", input=text)
    assert (again.exit_code, "1 was there already, 1 failed" in again.stderr) == (1, True)
    empty = run(*command, input="# nothing\n")
    assert empty.exit_code == 2
    assert "error: stdin is an empty list; expected paths or addresses, one a line" in empty.stderr


def test_layers_are_numbers_or_all(run, sound_folder, weights, tmp_path):
    shapes = {}
    for layers in ("3,6,-1", "-1", "all"):
        out = tmp_path / layers
        result = run("embed", sound_folder, "-o", out, "--model", weights, "--layers", layers)
        assert result.exit_code == 0, result.stderr
        shapes[layers] = np.load(out / "a.wav.embedding.npy").shape
    assert shapes == {"3,6,-1": (3, 960), "-1": (1, 960), "all": (14, 960)}
    refused = run("embed", sound_folder, "-o", tmp_path / "all", "--model", weights)
    assert refused.exit_code == 2
    assert "--layers was 0,1," in refused.stderr


def test_a_model_may_be_a_folder_of_weights(run, sound_folder, weights, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.safetensors").write_bytes(weights.read_bytes())
    assert run("embed", sound_folder, "-o", tmp_path / "out", "--model", tmp_path / "mine").exit_code == 0


def test_convert_says_what_it_found(run, tmp_path):
    result = run("convert", GOLDEN / "axlstm_e3_sigmoid.pth", tmp_path / "x", "--no-flip", "--input-gate", "sigmoid")
    assert result.exit_code == 0
    assert "expansion=3, flip=False, input_gate='sigmoid'" in result.stdout
    failed = run("convert", tmp_path / "absent.pth", tmp_path / "y")
    assert failed.exit_code == 1
    assert "no such file" in failed.stderr


def test_download_without_weights_fails_with_the_steps(run):
    result = run("download", VARIANT)
    assert result.exit_code == 1
    assert "drive.google.com" in result.stderr


def test_models_lists_every_variant_and_its_whereabouts(run, own_cache, weights):
    (own_cache / f"{VARIANT}.safetensors").write_bytes(weights.read_bytes())
    output = run("models").stdout
    assert all(variant in output for variant in hear_axlstm.VARIANTS)
    assert str(own_cache / f"{VARIANT}.safetensors") in output


def test_version_and_help(run):
    assert hear_axlstm.__version__ in run("--version").stdout
    assert "embed" in run("-h").stdout


def test_without_a_model_the_default_weights_embed(run, sound_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run("embed", sound_folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    embedding = np.load(tmp_path / "out" / "a.wav.embedding.npy")
    model = hear_axlstm.load_model()
    with torch.no_grad():
        expected = hear_axlstm.get_scene_embeddings(torch.from_numpy(read_audio(sound_folder / "a.wav").copy())[None], model)
    np.testing.assert_allclose(embedding, expected[0], atol=BATCH_MATES)


def test_recipes_are_listed(run):
    lines = run("recipes").stdout.splitlines()
    assert len(lines) == len(recipe_names())
    assert any(line.startswith("ssam-tiny-data10 ") and "SSAMConfig" in line and "subset 0.1" in line for line in lines)


def test_from_a_folder_of_sound_to_probed_weights(run, tmp_path):
    """synthesize, shards, pretrain, probe, embed: what the README shows, small."""
    assert run("synthesize", "procedural", "-o", tmp_path / "sound", "--hours", "0.01", "--clip-seconds", "4").exit_code == 0
    (tmp_path / "sound" / "broken.wav").write_bytes(b"RIFF nothing")
    packed = run("shards", tmp_path / "sound", "-o", tmp_path / "shards", "--format", "log-mel")
    assert packed.exit_code == 1
    assert "1 shard, 9 clips, 0.01 hours, 1 file failed" in packed.stderr
    assert "failed: broken.wav: " in packed.stderr
    recipe = tmp_path / "mine.toml"
    recipe.write_text('steps = 3\nbatch = 4\n[encoder]\nfamily = "axlstm"\nwidth = 16\ndepth = 1\npatch = [40, 16]\n')
    command = ["pretrain", recipe, "-o", tmp_path / "run", "--shards", tmp_path / "shards", "--synthetic", "0.5", "--cpu"]
    trained = run(*command)
    assert trained.exit_code == 0, trained.stderr
    weights = tmp_path / "run" / "model.safetensors"
    assert trained.stdout.strip() == str(weights)
    refused = run(*command, "--batch", "2")
    assert refused.exit_code == 2
    assert "--batch was 4 and is 2 now" in refused.stderr
    command = ["probe", weights, "--tasks", "order", "--clips-per-label", "2", "-o", tmp_path / "probe"]
    probed = run(*command)
    assert probed.exit_code == 0, probed.stderr
    columns, order, *means = probed.stdout.splitlines()
    assert columns.split() == ["run-released", "run-time", "random-run-released", "random-run-time", "log-mel"]
    assert order.startswith("order-v1-probe ")
    assert [mean.rsplit(maxsplit=5)[0] for mean in means] == ["mean of 1", "mean, 5 nearest neighbours"]
    assert run(*command).stdout == probed.stdout
    assert run("embed", tmp_path / "sound", "-o", tmp_path / "out", "--model", weights).exit_code == 1  # the broken one
    assert len(list((tmp_path / "out").glob("*.npy"))) == 9


def test_what_fails_in_the_middle_exits_with_one_and_says_what_is_kept(run, sound_folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("hear_axlstm.pretraining.shards._write", full)
    packed = run("shards", sound_folder, "-o", tmp_path / "shards")
    assert packed.exit_code == 1
    assert "error: No space left on device; what was finished is kept" in packed.stderr
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'steps = 9\nbatch = 2\nbase_lr = 1e12\n[encoder]\nfamily = "ssast"\nwidth = 16\nheads = 1\ndepth = 1\n'
    )
    trained = run("pretrain", recipe, "-o", tmp_path / "run", "--cpu")
    assert trained.exit_code == 1
    assert "error: the loss of update" in trained.stderr
    assert f"the run in {tmp_path / 'run'} has no checkpoint yet" in trained.stderr


def test_embeddings_of_sounds_that_are_gone_are_told_and_pruned(run, weights, sound_folder, tmp_path):
    command = ("embed", sound_folder, "-o", tmp_path / "out", "--model", weights)
    assert run(*command).exit_code == 0
    (sound_folder / "a.wav").rename(sound_folder / "z.wav")
    told = run(*command).stderr
    assert "their sounds are not there any more: 1 embedding (a.wav); --prune removes them" in told
    pruned = run(*command, "--prune")
    assert pruned.exit_code == 0
    assert "as their sounds are not there any more: 1 embedding (a.wav)" in pruned.stderr
    assert not list((tmp_path / "out").glob("a.wav*"))
    assert "not there any more" not in run(*command).stderr


def test_nothing_is_written_where_nothing_can_be_embedded(run, weights, tmp_path):
    result = run("embed", tmp_path / "nope", "-o", tmp_path / "out", "--model", weights)
    assert result.exit_code == 1
    assert f"0 sounds embedded, 0 were there already, 1 failed; nothing is written to {tmp_path / 'out'}" in result.stderr
    assert not (tmp_path / "out").exists()
