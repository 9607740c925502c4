"""Bad sounds, archives, answers and disks in the commands beside embed: each is a named failure, and stops no others."""

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from hear_axlstm.audio import read_audio
from hear_axlstm.cli import main
from hear_axlstm.config import SAMPLE_RATE, AxLSTMConfig
from hear_axlstm.errors import AudioError, ConfigError, OutputError, TaskError
from hear_axlstm.evaluation.results import MODEL, ModelRecord, failure_path, read_results
from hear_axlstm.evaluation.tasks import prepare, zenodo
from hear_axlstm.evaluation.tasks.check import check_task
from hear_axlstm.evaluation.tasks.prepare import prepare_task
from hear_axlstm.evaluation.tasks.suite import write_suite
from hear_axlstm.evaluation.tasks.taskfolder import read_task
from hear_axlstm.evaluation.tasks.zenodo import Patience, read_record
from hear_axlstm.pretraining import shards
from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.shards import write_shards
from hear_axlstm.pretraining.state import CHECKPOINT, CURVE, read_curve
from tests.conftest import noise, tone

TASK = "mridangam_stroke-v1.5-full"
ONCE = Patience(tries=1)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# shards


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for index, seconds in enumerate((1.0, 7.3, 75.5)):
        soundfile.write(folder / f"{index}.wav", noise(round(seconds * 22_050), seed=index).numpy(), 22_050)
    return folder


def members(packed):
    found = {}
    for shard in packed.shards:
        with tarfile.open(shard) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    return found


def test_pieces_of_blocks_are_the_pieces_of_the_whole(folder, tmp_path):
    packed = write_shards([folder], tmp_path / "shards", clip_seconds=4.0)
    for number, index in enumerate(np.random.default_rng(0).permutation(3)):
        wave = read_audio(folder / f"{index}.wav")
        starts = list(range(0, len(wave), 64_000))
        pieces = np.split(wave, starts[1:-1] if len(starts) > 1 and len(wave) - starts[-1] < 32_000 else starts[1:])
        own = [content for name, content in members(packed).items() if name.startswith(f"{number:09d}")]
        assert own == [shards._encode(piece, "flac") for piece in pieces]


def test_one_sound_that_nothing_can_be_done_with_ends_no_shard(folder, tmp_path, monkeypatch):
    soundfile.write(folder / "gsm.wav", tone(440, 3.0), SAMPLE_RATE, subtype="GSM610")
    soundfile.write(folder / "nan.wav", np.full(80_000, np.nan), SAMPLE_RATE, subtype="FLOAT")
    soundfile.write(folder / "m.wav", tone(440, 3.0), SAMPLE_RATE)
    (folder / "m.wav").rename(folder / os.fsdecode(b"m\xe4.wav"))
    (folder / "gone.wav").symlink_to("nowhere.wav")
    (folder / "voice.q4a").write_bytes(b"")
    encode = shards._encode

    def out_of_memory(clip, format):
        if len(clip) == 3 * SAMPLE_RATE + 1:
            raise MemoryError
        return encode(clip, format)

    soundfile.write(folder / "large.wav", tone(440, 3.0 + 1 / SAMPLE_RATE), SAMPLE_RATE)
    monkeypatch.setattr(shards, "_encode", out_of_memory)
    result = run("shards", folder, "-o", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 1
    assert "1 shard, 12 clips, 0.02 hours, 3 files failed" in result.stderr
    assert "; 1 other file left out (1 .q4a)" in result.stderr
    for name, reason in {"nan.wav": "NaN", "large.wav": "ran out of memory", "gone.wav": "link to a file"}.items():
        assert any(line.startswith(f"failed: {name}: ") and reason in line for line in result.stderr.splitlines())


def test_a_source_that_changed_is_packed_again_and_others_are_left(folder, tmp_path):
    options = {"out": tmp_path / "shards", "files_per_shard": 1}
    first = write_shards([folder], **options)
    content, times = members(first), [shard.stat().st_mtime_ns for shard in first.shards]
    place = list(np.random.default_rng(0).permutation(3)).index(1)
    status = (folder / "1.wav").stat()
    soundfile.write(folder / "1.wav", noise(round(7.3 * 22_050), seed=9).numpy(), 22_050)
    os.utime(folder / "1.wav", ns=(status.st_atime_ns, status.st_mtime_ns - 1))  # older than what was packed, as a backup is
    again = write_shards([folder], **options)
    changed = {name for name, own in members(again).items() if own != content[name]}
    assert {int(name[:9]) for name in changed} == {place}
    assert [shard.stat().st_mtime_ns == time for shard, time in zip(again.shards, times, strict=True)] == [
        number != place for number in range(3)
    ]


@pytest.mark.parametrize("damage", ["cut shard", "no report", "half a report", "report of other types"])
def test_a_damaged_shard_is_made_again(folder, tmp_path, damage):
    first = write_shards([folder], tmp_path / "shards")
    content, (shard,) = members(first), first.shards
    report = shard.with_suffix(".json")
    if damage == "cut shard":
        shard.write_bytes(shard.read_bytes()[:-1_000])
    elif damage == "no report":
        report.unlink()
    else:
        report.write_text('{"clips": ' if damage == "half a report" else "[" * 100_000)
    again = write_shards([folder], tmp_path / "shards")
    assert (members(again), again.clips) == (content, first.clips)


def test_a_full_disk_is_no_failure_of_the_sound(folder, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _content):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.tempfile, "SpooledTemporaryFile", lambda *_, **__: Full())
    result = run("shards", folder, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "error: [Errno 28] No space left on device; what was finished is kept" in result.stderr
    assert not list((tmp_path / "out").glob("*.tar"))


# shards that are read


@pytest.mark.parametrize("damage", ["header in the middle", "cut at a member's end"])
def test_a_shard_with_a_hole_is_not_taken_for_a_short_one(folder, tmp_path, damage):
    (shard,) = write_shards([folder], tmp_path / "shards", clip_seconds=4.0).shards
    with tarfile.open(shard) as tar:
        place = tar.getmembers()[5].offset
    content = bytearray(shard.read_bytes())
    shard.write_bytes(content[:place] if damage.startswith("cut") else content[:place] + b"x" * 512 + content[place + 512 :])
    with pytest.raises(ConfigError, match=r"shard-000000\.tar: not a whole tar file .*; make the shard again"):
        ShardClips([shard])


@pytest.mark.parametrize("mel", [np.full((300, 80), np.nan, np.float16), np.zeros((3, 7), np.float16)], ids=["nan", "shape"])
def test_a_bad_log_mel_is_named(tmp_path, mel):
    content = io.BytesIO()
    np.save(content, mel)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("00-00.npy")
        member.size = len(content.getvalue())
        tar.addfile(member, io.BytesIO(content.getvalue()))
    with pytest.raises(AudioError, match=r"a\.tar: member 00-00\.npy: .*; make the shard again"):
        ShardClips([tmp_path / "a.tar"]).log_mel(0)


def test_a_bad_clip_is_named_from_a_worker_as_from_here(folder, tmp_path):
    (shard,) = write_shards([folder], tmp_path / "shards").shards
    with tarfile.open(shard) as tar:
        damaged = tar.getmembers()
    content = bytearray(shard.read_bytes())
    for member in damaged:
        content[member.offset_data : member.offset_data + 4] = b"fLaK"
    shard.write_bytes(content)
    recipe = Recipe(encoder=SMALL, steps=2, batch=2, shards=(str(shard),))
    messages = []
    for workers in (0, 1):
        with pytest.raises(AudioError, match=r"member \d+-\d+\.flac: .*; make the shard again") as raised:
            pretrain(recipe, tmp_path / f"run{workers}", cpu=True, workers=workers)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


# pretraining

SMALL = AxLSTMConfig(width=16, depth=1, patch=(40, 16))
RECIPE = Recipe(encoder=SMALL, steps=6, batch=2)


def test_a_full_disk_ends_pretraining_with_its_cause_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    from hear_axlstm.weights import save

    written, save_file = [], save.save_file

    def full_after_two(tensors, path, metadata):
        written.append(path)
        if len(written) > 2:
            Path(path).write_bytes(b"half of it")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save_file(tensors, path, metadata=metadata)

    monkeypatch.setattr(save, "save_file", full_after_two)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("steps = 6\nbatch = 2\n[encoder]\nfamily = 'axlstm'\nwidth = 16\ndepth = 1\npatch = [40, 16]\n")
    command = ("pretrain", recipe, "-o", tmp_path / "run", "--cpu", "--checkpoint-minutes", 0)
    result = run(*command)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert "the last checkpoint is kept in" in result.stderr
    assert not list((tmp_path / "run").glob(".*.part"))
    monkeypatch.undo()
    assert run(*command).exit_code == 0
    pretrain(RECIPE, tmp_path / "whole", cpu=True)
    losses = [[row["loss"] for row in read_curve(tmp_path / name / CURVE)] for name in ("run", "whole")]
    assert losses[0] == losses[1]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, which only root may")
def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a disk")
    try:
        with pytest.raises(OSError, match="No space left on device"):
            pretrain(replace(RECIPE, steps=2_000), disk / "run", cpu=True, checkpoint_minutes=0)
        assert not list((disk / "run").glob(".*.part"))
        wave = np.zeros(80_000, np.float32)
        with pytest.raises(OSError, match="No space left on device"):
            prepare.write_wav(disk / "a.wav", wave, SAMPLE_RATE)
        assert not (disk / "a.wav").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_flipped_bit_in_a_checkpoint_is_seen(tmp_path):
    pretrain(RECIPE, tmp_path / "run", cpu=True)
    content = bytearray((tmp_path / "run" / CHECKPOINT).read_bytes())
    content[-3] ^= 1
    (tmp_path / "run" / CHECKPOINT).write_bytes(content)
    with pytest.raises(OutputError, match=r"is damaged .*fingerprint.*start again with --overwrite"):
        pretrain(RECIPE, tmp_path / "run", cpu=True)


@pytest.mark.parametrize("content", [b"step,loss\nx,y\n", b"\xff\n\xfe\n", b"loss\n1\n"], ids=["words", "bytes", "column"])
def test_a_damaged_curve_is_named(tmp_path, content):
    pretrain(RECIPE, tmp_path / "run", cpu=True)
    (tmp_path / "run" / CURVE).write_bytes(content)
    with pytest.raises(OutputError, match=r"curve\.csv is damaged .*; delete it"):
        pretrain(RECIPE, tmp_path / "run", cpu=True)


# tasks


@pytest.fixture
def source(tmp_path):
    return write_suite(tmp_path / "source", [TASK], clips_per_label=1, sample_rate=48_000).tasks[0]


def clips(task, rate=48_000):
    return sorted((task / str(rate)).glob("*/*.wav"))


def test_all_bad_clips_of_a_task_are_named(source, tmp_path):
    first, second, third, *_ = clips(source)
    wave, _ = soundfile.read(first)
    soundfile.write(first, np.where(np.arange(len(wave)) < 9, np.nan, wave), 48_000, subtype="FLOAT")
    soundfile.write(second, np.where(np.arange(len(wave)) < 9, np.inf, wave), 48_000, subtype="FLOAT")
    third.write_bytes(b"RIFF")
    result = run("tasks", "prepare", source, "-o", tmp_path / "tasks")
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("failed: "))
    assert "3 clips cannot be prepared" in line
    for clip in (first, second, third):
        assert str(clip) in line
    assert line.count("holds NaN or infinity; mend or replace it") == 2
    assert not (tmp_path / "tasks" / TASK).exists()


def test_codings_that_cannot_seek_are_prepared(source, tmp_path):
    clip = clips(source)[0]
    wave, _ = soundfile.read(clip)
    soundfile.write(clip, wave, 48_000, subtype="GSM610")
    task = prepare_task(source, tmp_path / "tasks").path
    assert soundfile.info(task / "16000" / clip.relative_to(source / "48000")).frames >= len(wave) // 3


def test_a_prepared_task_follows_its_source_or_says_that_it_does_not(source, tmp_path):
    task = prepare_task(source, tmp_path / "tasks")
    assert prepare_task(source, tmp_path / "tasks").path == task.path
    clip = clips(source)[0]
    os.utime(clip, ns=(0, clip.stat().st_mtime_ns - 1))
    with pytest.raises(TaskError, match=r"was made before sounds of .* changed; remove it, and repeat"):
        prepare_task(source, tmp_path / "tasks")


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
def test_check_hears_what_headers_do_not_say(tmp_path, subtype):
    task = write_suite(tmp_path / "tasks", [TASK], clips_per_label=1).tasks[0]
    assert check_task(task).is_good
    clip = clips(task, SAMPLE_RATE)[0]
    if subtype == "FLOAT":
        wave, _ = soundfile.read(clip)
        soundfile.write(clip, np.where(np.arange(len(wave)) < 9, np.nan, wave), SAMPLE_RATE, subtype=subtype)
    else:
        clip.write_bytes(clip.read_bytes()[:-1_000])
    problems = check_task(task).problems
    assert any(clip.name in problem and ("NaN" in problem or "cut short" in problem) for problem in problems)


def archive(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_of_zeros_is_no_task(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "LARGEST_CLIP", 1 << 20)
    bombs = {"one clip": {"t/48000/train/a.wav": bytes(2 << 20)}, "many": {f"t/{n}.bin": bytes(1 << 20) for n in range(9)}}
    for name, files in bombs.items():
        with pytest.raises(TaskError, match="do not trust it"):
            prepare_task(archive(tmp_path / f"{name}.tar.gz", files), tmp_path / "tasks")


def test_a_member_with_an_endless_name_is_not_read(tmp_path):
    with pytest.raises(TaskError, match=r"not a whole \.tar\.gz \(a description of"):
        prepare_task(archive(tmp_path / "long.tar.gz", {"x" * (2 << 20): b""}), tmp_path / "tasks")


def test_what_came_from_a_damaged_archive_is_not_kept(source, tmp_path):
    with tarfile.open(tmp_path / "task.tar.gz", "w:gz") as tar:
        tar.add(source, source.name)
    content = bytearray((tmp_path / "task.tar.gz").read_bytes())
    content[-6] ^= 1  # of the checksum at its end
    (tmp_path / "task.tar.gz").write_bytes(content)
    with pytest.raises(TaskError, match=r"not a whole \.tar\.gz"):
        prepare_task(tmp_path / "task.tar.gz", tmp_path / "tasks")
    assert not list((tmp_path / "tasks").rglob("*.wav"))


DEEP = "[" * 200_000


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("task_metadata.json", DEEP),
        ("fold00.json", DEEP),
        ("fold00.json", "[]"),
        ("fold00.json", '{"a.wav": 5}'),
        ("task_metadata.json", '{"splits": [".."]}'),
        ("labelvocabulary.csv", 'idx,label\n0,"' + "x" * 200_000),
        ("labelvocabulary.csv", "idx,label\n0\n"),
    ],
    ids=["deep metadata", "deep split", "list", "number", "name", "field", "row"],
)
def test_damaged_descriptions_are_that_task_s_problem(tmp_path, file, content):
    task = write_suite(tmp_path / "tasks", [TASK], clips_per_label=1).tasks[0]
    (task / file).write_text(content)
    (problem,) = check_task(task).problems
    assert file in problem or "splits" in problem or "split_mode" in problem


# Zenodo


def answering(monkeypatch, content):
    monkeypatch.setattr(zenodo, "_open", lambda *_: io.BytesIO(content))


GOOD = {"key": "a", "size": 5, "checksum": f"md5:{'0' * 32}", "links": {"self": "https://example.org/a"}}


@pytest.mark.parametrize(
    "answer",
    [
        "[]",
        "5",
        "null",
        DEEP,
        '{"files": 5}',
        '{"files": [[]]}',
        '{"files": {"entries": []}}',
        *(
            json.dumps({"files": [{**GOOD, **change}]})
            for change in (
                {"size": -5},
                {"size": "5"},
                {"size": 2.5},
                {"size": 1e300},
                {"size": True},
                {"key": ["a"]},
                {"checksum": 5},
                {"checksum": "md5:zz"},
                {"links": []},
                {"links": {"self": 5}},
                {"links": {"self": "file:///etc/passwd"}},
            )
        ),
    ],
    ids=lambda answer: answer[:60],
)
def test_an_answer_that_is_no_record_is_an_error_with_its_address(monkeypatch, answer):
    answering(monkeypatch, answer.encode())
    with pytest.raises(TaskError, match="records/7: "):
        read_record("7", api="https://example.org/records", patience=ONCE)


def test_a_record_is_read_in_bounded_memory(monkeypatch):
    class Endless(io.RawIOBase):
        read_so_far = 0

        def read(self, size=-1):
            assert size >= 0
            self.read_so_far += size
            return b" " * size

    endless = Endless()
    monkeypatch.setattr(zenodo, "_open", lambda *_: endless)
    with pytest.raises(TaskError, match="the answer has more than"):
        read_record("7", api="https://example.org/records", patience=ONCE)
    assert endless.read_so_far < 32 << 20


# evaluate and report


def test_a_damaged_result_is_left_out_of_a_report_and_named(tmp_path):
    folder = tmp_path / "results" / "m"
    record = ModelRecord(name="m", module="hear_axlstm", weights_sha256="00", parameters=1, options={})
    record.write(folder / MODEL)
    failure_path(folder, "axlstm", "native", "toy").parent.mkdir(parents=True)
    for name, content in {"half": '{"schema": 1, ', "deep": DEEP, "list": "[]", "type": '{"schema": 1, "model": 5}'}.items():
        failure_path(folder, "axlstm", "native", name).write_text(content)
    assert len(read_results([tmp_path / "results"]).damaged) == 4
    result = run("report", tmp_path / "results", "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["schema"]
    assert len([line for line in result.stderr.splitlines() if line.startswith("left out: ") and "is damaged" in line]) == 4


def test_a_task_whose_sounds_changed_is_evaluated_again(tmp_path):
    tasks = write_suite(tmp_path / "tasks", [TASK], clips_per_label=1).tasks
    command = ("evaluate", tmp_path / "tasks", "-o", tmp_path / "out", "--model", "log-mel", "--engine", "linear", "-q")
    torch.set_num_threads(1)
    assert run(*command).exit_code == 0
    (score,) = (tmp_path / "out").rglob("seed-*.json")
    before, when = json.loads(score.read_text()), score.stat().st_mtime_ns
    assert run(*command).exit_code == 0
    assert score.stat().st_mtime_ns == when
    for clip in clips(tasks[0], SAMPLE_RATE):
        soundfile.write(clip, noise(soundfile.info(clip).frames).numpy(), SAMPLE_RATE)
    assert read_task(tasks[0]).sha256 == before["task_sha256"]
    assert run(*command).exit_code == 0
    after = json.loads(score.read_text())
    assert before["sounds_sha256"] != after["sounds_sha256"]
    assert before["score"] != after["score"]
