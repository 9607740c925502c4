"""Archives and folders at 48 kHz, as HEAR publishes them, become task folders at 16 kHz."""

import gzip
import io
import shutil
import subprocess
import tarfile
import zlib

import numpy as np
import pytest
import soundfile

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.tasks.check import check_task
from hear_axlstm.evaluation.tasks.prepare import UNFINISHED, prepare_task, resample_clip
from hear_axlstm.evaluation.tasks.suite import write_suite
from hear_axlstm.evaluation.tasks.taskfolder import find_tasks, read_task
from tests.conftest import tone
from tests.processes import stopped

TASK = "mridangam_tonic-v1.5-full"


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A small task at 48 kHz."""
    return write_suite(tmp_path_factory.mktemp("published"), [TASK], clips_per_label=1, sample_rate=48_000).tasks[0]


@pytest.fixture
def ours(published, tmp_path):
    """A copy of it, to be spoilt."""
    return shutil.copytree(published, tmp_path / "ours" / TASK)


@pytest.fixture
def pack(tmp_path):
    def pack(folder, inside=f"tasks/{TASK}", first="48000"):
        """A .tar.gz of a task folder, which begins with what is called ``first``."""
        archive = tmp_path / "task.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for path in sorted(folder.iterdir(), key=lambda path: path.name != first):
                tar.add(path, f"{inside}/{path.name}")
        return archive

    return pack


def sounds(task, rate=16_000):
    """Path in the task -> samples."""
    folder = task / str(rate)
    return {str(path.relative_to(folder)): soundfile.read(path)[0] for path in sorted(folder.rglob("*.wav"))}


def texts(task):
    return {path.name: path.read_text() for path in task.iterdir() if path.is_file()}


def modified(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}


def assert_prepared(task, published):
    assert not check_task(task).problems
    assert texts(task) == texts(published)
    assert {path.name for path in task.iterdir()} == {*texts(published), "16000"}
    for name, wave in sounds(published, 48_000).items():
        header = soundfile.info(task / "16000" / name)
        assert (header.samplerate, header.channels, header.subtype, header.format) == (16_000, 1, "PCM_16", "WAV")
        assert header.frames == len(wave) / 3
    assert not (task.parent / UNFINISHED).exists()


def test_a_folder_becomes_one_at_16_khz(published, tmp_path):
    task = prepare_task(published, tmp_path / "tasks")
    assert task.path == tmp_path / "tasks" / TASK
    assert_prepared(task.path, published)


@pytest.mark.parametrize(
    ("inside", "first"),
    [
        (f"tasks/{TASK}", "48000"),
        (f"hear-2021.0.6/tasks/{TASK}", "task_metadata.json"),
        (TASK, "fold03.json"),
        (f"./{TASK}", "48000"),
    ],
)
def test_an_archive_becomes_a_folder_wherever_in_it_the_task_is(published, pack, tmp_path, inside, first):
    task = prepare_task(pack(published, inside, first), tmp_path / "tasks")
    assert task.path == tmp_path / "tasks" / TASK
    assert_prepared(task.path, published)


def test_sounds_stay_what_they_were(published, tmp_path):
    """The suite made at 16 kHz is what the one at 48 kHz was made of."""
    prepared = sounds(prepare_task(published, tmp_path / "tasks").path)
    originals = sounds(write_suite(tmp_path / "originals", [TASK], clips_per_label=1).tasks[0])
    assert prepared.keys() == originals.keys()
    for name, wave in originals.items():
        below = np.fft.rfftfreq(len(wave), 1 / 16_000) < 7_000  # what is just below 8 kHz is lost twice
        error = np.linalg.norm(np.fft.rfft((prepared[name] - wave) * np.hanning(len(wave)))[below])
        assert error < 0.002 * np.linalg.norm(np.fft.rfft(wave * np.hanning(len(wave))))


def test_archive_and_folder_give_the_same_bytes(published, pack, tmp_path):
    folder, archive = prepare_task(published, tmp_path / "a").path, prepare_task(pack(published), tmp_path / "b").path
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (archive / path.relative_to(folder)).read_bytes()


def test_what_16_khz_cannot_hold_is_gone_and_the_rest_is_as_loud(tmp_path):
    for hertz in (1_000, 7_000, 9_000):
        soundfile.write(tmp_path / "48.wav", tone(hertz, 0.5, 48_000), 48_000, subtype="FLOAT")
        resample_clip(tmp_path / "48.wav", tmp_path / "16.wav")
        wave, rate = soundfile.read(tmp_path / "16.wav")
        level = np.sqrt(2) * wave[1_000:-1_000].std()
        assert (rate, len(wave)) == (16_000, 8_000)
        assert level == pytest.approx(0.5 if hertz < 8_000 else 0, abs=1e-3)


@pytest.mark.parametrize("rate", [48_000, 44_100, 32_000, 22_050, 16_000])
@pytest.mark.parametrize("samples", [1_000, 1_001, 35_721])
def test_lengths_are_rounded(tmp_path, rate, samples):
    soundfile.write(tmp_path / "from.wav", np.zeros(samples), rate)
    resample_clip(tmp_path / "from.wav", tmp_path / "to.wav")
    assert soundfile.info(tmp_path / "to.wav").frames == int(samples * 16_000 / rate + 0.5)


def test_channels_are_averaged_and_peaks_do_not_wrap(tmp_path):
    soundfile.write(tmp_path / "from.wav", np.array([[0.5, -0.25], [1.5, 1.5], [-1.5, -1.5]]), 16_000, subtype="FLOAT")
    resample_clip(tmp_path / "from.wav", tmp_path / "to.wav")
    assert soundfile.read(tmp_path / "to.wav", dtype="int16")[0].tolist() == [4_096, 32_767, -32_768]


def test_16_bits_at_16_khz_stay_as_they_are_out_of_an_archive(pack, tmp_path):
    source = write_suite(tmp_path / "source", [TASK], clips_per_label=1).tasks[0]
    prepared = sounds(prepare_task(pack(source), tmp_path / "tasks").path)
    for name, wave in sounds(source).items():
        np.testing.assert_array_equal(prepared[name], wave)


def test_a_folder_at_16_khz_is_used_as_it_is(tmp_path):
    source = write_suite(tmp_path / "source", [TASK], clips_per_label=1).tasks[0]
    assert prepare_task(source, tmp_path / "tasks").path == source
    assert not (tmp_path / "tasks").exists()


def test_another_rate_than_48_khz_will_do(tmp_path):
    source = write_suite(tmp_path / "source", [TASK], clips_per_label=1, sample_rate=22_050).tasks[0]
    assert not check_task(prepare_task(source, tmp_path / "tasks").path).problems


def test_a_folder_among_the_tasks_gets_its_sounds_at_16_khz(ours):
    assert prepare_task(ours, ours.parent).path == ours
    assert {path.name for path in ours.parent.iterdir()} == {TASK}
    assert (ours / "48000").is_dir()
    assert not check_task(ours).problems


@pytest.mark.parametrize(
    ("off", "becomes"), [(-2, 12_960), (-1, 12_960), (1, 12_960), (2, 12_960), (5, 12_965), (-5, 12_955)]
)
def test_clips_off_by_rounding_get_the_tasks_length(ours, tmp_path, off, becomes):
    clip = next((ours / "48000").rglob("*.wav"))
    wave, rate = soundfile.read(clip)
    soundfile.write(clip, np.pad(wave, (0, 99))[: len(wave) + 3 * off], rate)
    task = prepare_task(ours, tmp_path / "tasks").path
    assert soundfile.info(task / "16000" / clip.relative_to(ours / "48000")).frames == becomes
    assert bool(check_task(task).problems) == (abs(off) > 2)


def test_clips_of_many_lengths_keep_theirs(tmp_path):
    source = write_suite(tmp_path / "source", ["fsd50k-v1.0-full"], clips_per_label=1, sample_rate=48_000).tasks[0]
    task = prepare_task(source, tmp_path / "tasks").path
    lengths = {name: round(len(wave) / 3) for name, wave in sounds(source, 48_000).items()}
    assert {name: len(wave) for name, wave in sounds(task).items()} == lengths
    assert len(set(lengths.values())) > 10


@pytest.mark.parametrize("packed", [False, True])
def test_a_clip_that_cannot_be_decoded_is_named_and_the_task_goes_on_once_it_is_mended(ours, pack, tmp_path, packed):
    tasks, clip = tmp_path / "tasks", ours / "48000" / "fold02" / "fold02-0003.wav"
    good = clip.read_bytes()
    clip.write_bytes(b"RIFF no more")
    with pytest.raises(TaskError, match=r"fold02/fold02-0003\.wav: cannot be decoded"):
        prepare_task(pack(ours) if packed else ours, tasks, workers=1)
    with pytest.raises(TaskError, match=r"no task there|no such folder"):
        find_tasks(tasks)
    done = modified(tasks)
    assert len(done) >= 10
    clip.write_bytes(good)
    task = prepare_task(pack(ours) if packed else ours, tasks).path
    assert_prepared(task, ours)
    kept = {task / "16000" / path.parts[-2] / path.name: when for path, when in done.items()}
    assert packed or kept.items() <= modified(task).items()


def test_a_clip_without_samples_is_named(ours, tmp_path):
    clip = ours / "48000" / "fold01" / "fold01-0000.wav"
    soundfile.write(clip, np.zeros(0), 48_000)
    with pytest.raises(TaskError, match=r"fold01-0000\.wav: holds no samples"):
        prepare_task(ours, tmp_path / "tasks")


@pytest.mark.parametrize("packed", [False, True])
def test_a_clip_that_is_missing_is_named(ours, pack, tmp_path, packed):
    (ours / "48000" / "fold04" / "fold04-0001.wav").unlink()
    with pytest.raises(TaskError, match=r"clips are missing \(1\), fold04.fold04-0001\.wav first"):
        prepare_task(pack(ours) if packed else ours, tmp_path / "tasks")
    assert not (tmp_path / "tasks" / TASK).exists()


def test_names_that_lead_out_of_the_folder_are_refused(ours, tmp_path):
    split = ours / "fold00.json"
    split.write_text(split.read_text().replace("fold00-0000.wav", "../../../evil.wav"))
    with pytest.raises(TaskError, match="is not a plain file name"):
        prepare_task(ours, tmp_path / "tasks")


def member(name, **values):
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "evil",
    [
        member(f"tasks/{TASK}/48000/fold00/../../../../evil.wav"),
        member("/tmp/evil.wav"),
        member(f"tasks/{TASK}/48000/fold00/link.wav", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member(f"tasks/{TASK}/48000/fold00/link.wav", type=tarfile.LNKTYPE, linkname=f"tasks/{TASK}/fold00.json"),
    ],
)
def test_an_archive_that_leads_out_of_its_folder_is_not_trusted(published, pack, tmp_path, evil):
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar, tarfile.open(pack(published)) as good:
        for info in good:
            tar.addfile(info, good.extractfile(info))
        tar.addfile(evil)
    with pytest.raises(TaskError, match="do not trust this one"):
        prepare_task(archive, tmp_path / "tasks")
    assert not (tmp_path / "tasks" / TASK).exists()
    assert not list(tmp_path.rglob("evil.wav"))


def spoil(archive, how):
    content = archive.read_bytes()
    if how == "cut":
        return content[: len(content) // 2]
    if how == "cut at its end":  # all members are whole, but not the checksum, which comes long after them
        return gzip.compress(gzip.decompress(content) + bytes(5 << 20), 1)[:-6]
    if how == "scrambled":
        return content[:1_000] + b"\xff" * 1_000 + content[2_000:]
    if how == "no deflate":
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        return packer.compress(gzip.decompress(content)[:2_000_000]) + packer.flush(zlib.Z_FULL_FLUSH) + b"\7"
    if how == "another byte":
        unpacked = bytearray(gzip.decompress(content))
        unpacked[len(unpacked) // 2] ^= 1
        return gzip.compress(unpacked, 1)[:-8] + content[-8:]
    return {"no gzip": b"PK\3\4 and so on", "no tar": gzip.compress(b"hello" * 1_000)}[how]


@pytest.mark.parametrize("how", ["cut", "cut at its end", "scrambled", "no deflate", "another byte", "no gzip", "no tar"])
def test_a_damaged_archive_makes_no_task(published, pack, tmp_path, how):
    archive = pack(published)
    archive.write_bytes(spoil(archive, how))
    with pytest.raises(TaskError, match=r"not a whole \.tar\.gz"):
        prepare_task(archive, tmp_path / "tasks")
    assert not (tmp_path / "tasks" / TASK).exists()


def test_an_archive_of_something_else_is_told(published, pack, ours, tmp_path):
    archive = tmp_path / "other.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("readme.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    with pytest.raises(TaskError, match="holds no sounds"):
        prepare_task(archive, tmp_path / "tasks")
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name in ("one", "two"):
            tar.add(published, name)
    with pytest.raises(TaskError, match="holds two tasks, one and two"):
        prepare_task(archive, tmp_path / "tasks")
    (ours / "task_metadata.json").unlink()
    with pytest.raises(TaskError, match=r"holds no .*task_metadata\.json"):
        prepare_task(pack(ours), tmp_path / "tasks")
    with pytest.raises(TaskError, match="no such file or folder"):
        prepare_task(tmp_path / "nothing.tar.gz", tmp_path / "tasks")


def test_what_is_done_is_not_done_again(published, pack, tmp_path):
    task = prepare_task(pack(published), tmp_path / "tasks").path
    before = modified(task)
    for source in (published, tmp_path / "task.tar.gz"):
        assert prepare_task(source, tmp_path / "tasks").path == task
    assert modified(task) == before


def test_another_folder_of_the_tasks_name_is_left_alone(published, tmp_path):
    (tmp_path / "tasks" / TASK).mkdir(parents=True)
    (tmp_path / "tasks" / TASK / "mine.txt").write_text("do not touch")
    with pytest.raises(TaskError, match="is there, but has no folder 16000"):
        prepare_task(published, tmp_path / "tasks")
    assert (tmp_path / "tasks" / TASK / "mine.txt").read_text() == "do not touch"


def test_a_killed_call_is_continued_and_never_looks_finished(published, pack, tmp_path):
    source, tasks = pack(published), tmp_path / "tasks"
    run = stopped("*.wav", 6, "tasks", "prepare", source, "-o", tasks, "--workers", "2", stderr=subprocess.DEVNULL)
    run.kill()
    run.wait()
    with pytest.raises(TaskError, match=r"no task there|no such folder"):
        find_tasks(tasks)
    done = modified(tasks)
    assert 6 <= len(done) < 30
    (next(iter(done)).parent / ".fold00-0005.wav.0123abcd.part").write_bytes(b"RIFF")  # where it was killed, perhaps
    task = prepare_task(source, tasks).path
    assert_prepared(task, published)
    kept = {task / "16000" / path.parts[-2] / path.name: when for path, when in done.items()}
    assert kept.items() <= modified(task).items()
    assert not list(tasks.rglob("*.part"))


def test_what_was_begun_of_another_source_is_not_continued(published, ours, tmp_path):
    tasks, clip = tmp_path / "tasks", ours / "48000" / "fold04" / "fold04-0005.wav"
    for path in (ours / "48000").rglob("*.wav"):
        soundfile.write(path, np.zeros(38_880), 48_000)
    clip.write_bytes(b"")
    with pytest.raises(TaskError, match=r"fold04-0005\.wav: the file is empty"):
        prepare_task(ours, tasks)
    assert modified(tasks)
    task = prepare_task(published, tasks).path
    assert all(wave.any() for wave in sounds(task).values())
    assert read_task(task).sha256 == read_task(published).sha256
    assert not (tasks / UNFINISHED).exists()
