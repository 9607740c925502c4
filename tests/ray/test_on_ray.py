"""``embed`` on Ray Data: the rows of one machine, whatever is killed meanwhile."""

import logging
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
dataset = pytest.importorskip("pyarrow.dataset")

from hear_axlstm import embed  # noqa: E402
from hear_axlstm.config import SAMPLE_RATE  # noqa: E402
from hear_axlstm.embedder import Embedder  # noqa: E402
from hear_axlstm.errors import BackendError, ConfigError  # noqa: E402
from hear_axlstm.files import cluster as files_cluster  # noqa: E402
from hear_axlstm.files import load_embeddings, on_ray  # noqa: E402
from hear_axlstm.weights.save import save_weights  # noqa: E402
from tests.conftest import noise, tone  # noqa: E402
from tests.processes import stopped, wait_until  # noqa: E402
from tests.ray.models import DEADLY, Broken, Deadly, Waiting, small_encoder  # noqa: E402
from tests.tolerances import BATCH_MATES  # noqa: E402

COUNT = 40
NAMES = [f"{index:02}.wav" for index in range(COUNT)]
SMALL = {"batch_seconds": 4.0}


@pytest.fixture(scope="module")
def cluster():
    """A head with two processors, which this process is connected to as a user would be; nodes may be added."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "object_store_memory": 200 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    yield cluster
    assert ray.is_initialized()  # nothing has ended the user's Ray
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def model():
    return Embedder(small_encoder())


@pytest.fixture
def sounds(tmp_path):
    """Forty short sounds, of which one is no sound."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for index, name in enumerate(NAMES):
        soundfile.write(folder / name, noise(6_000 + 150 * index, seed=index).numpy(), SAMPLE_RATE)
    (folder / "broken.wav").write_bytes(b"RIFF and no more")
    return folder


class Busy:
    def wait(self):
        pass


def rows_of(folder):
    """The rows of a folder by name; none is there twice."""
    rows = dataset.dataset(folder).to_table().to_pylist()
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


def embed_while_one_waits(sounds, folder, kill):
    """What ``embed`` gives when ``kill`` is called with the process that is the first to encode, and stays at it."""
    model = Waiting(small_encoder())
    model.place = folder / "waits"

    def kill_it():
        wait_until(lambda: model.place.exists() and model.place.read_text())
        kill(int(model.place.read_text()))

    killer = threading.Thread(target=kill_it)
    killer.start()
    result = embed(sounds, model, out=folder / "out", ray=True, **SMALL)
    killer.join()
    return result


def assert_same_rows(found, expected):
    assert found.keys() == expected.keys()
    for name, row in expected.items():
        embedding, other = row.pop("embedding"), found[name].pop("embedding")
        np.testing.assert_equal(found[name], row)  # NaN where a duration is unknown
        if embedding is None:
            assert other is None
        else:
            np.testing.assert_allclose(np.array(other), np.array(embedding), rtol=0, atol=BATCH_MATES)


def test_rows_are_those_of_one_machine_and_a_second_run_does_nothing(cluster, model, sounds, tmp_path, monkeypatch):
    alone = embed(sounds, model, out=tmp_path / "alone", format="parquet")
    monkeypatch.chdir(tmp_path)
    result = embed("sounds", model, out="out", ray=True, **SMALL)
    assert sorted(result.embedded) == NAMES
    assert result.failures == alone.failures
    assert result.failures.keys() == {"broken.wav"}
    np.testing.assert_array_equal(result.durations, alone.durations)
    assert_same_rows(rows_of(tmp_path / "out"), rows_of(tmp_path / "alone"))

    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = embed("sounds", model, out="out", ray=True, **SMALL)
    assert (again.embedded, sorted(again.skipped), again.failures) == ([], NAMES, alone.failures)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == parts


def test_timestamps_and_layers_in_npy_files(cluster, model, sounds, tmp_path):
    kind = {"timestamps": True, "layers": [0, -1], "format": "npy"}
    embed(sounds, model, out=tmp_path / "alone", **kind)
    embed(sounds, model, out=tmp_path / "out", ray=True, **kind)
    alone, found = (load_embeddings(tmp_path / folder) for folder in ("alone", "out"))
    assert found.names == alone.names == NAMES
    for ours, expected in zip(found.embeddings, alone.embeddings, strict=True):
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, rtol=0, atol=BATCH_MATES)
    for ours, expected in zip(found.timestamps, alone.timestamps, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_killed_actor_loses_nothing_and_doubles_nothing(cluster, sounds, tmp_path):
    result = embed_while_one_waits(sounds, tmp_path, lambda process: os.kill(process, signal.SIGKILL))
    assert sorted(result.embedded) == NAMES
    assert rows_of(tmp_path / "out").keys() == {*NAMES, "broken.wav"}


def test_a_sound_that_kills_its_process_fails_alone(cluster, sounds, tmp_path):
    soundfile.write(sounds / "deadly.wav", noise(DEADLY).numpy(), SAMPLE_RATE)
    result = embed(sounds, Deadly(small_encoder()), out=tmp_path / "out", ray=True, **SMALL)
    assert sorted(result.embedded) == NAMES
    assert "died, 4 times" in result.failures["deadly.wav"]
    assert "died, 4 times" in rows_of(tmp_path / "out")["deadly.wav"]["error"]


def test_what_no_sound_is_to_blame_for_ends_the_run(cluster, sounds, tmp_path, monkeypatch):
    with pytest.raises(BackendError, match="it is broken"):
        embed(sounds, Broken(small_encoder()), out=tmp_path / "out", ray=True)
    monkeypatch.setattr(files_cluster, "__version__", "0.0.1")
    with pytest.raises(ConfigError, match=r"and 0\.0\.1 where the command runs; install the same everywhere"):
        embed(sounds, Embedder(small_encoder()), out=tmp_path / "out", ray=True)


def test_a_killed_driver_is_taken_up_again(cluster, sounds, tmp_path):
    save_weights(small_encoder(), tmp_path / "small.safetensors", {"source": "random initial values"})
    command = ["embed", sounds, "-o", tmp_path / "out", "--model", tmp_path / "small.safetensors", "--batch-seconds", "1"]
    command += [f"--ray={cluster.address}"]
    run = stopped("*.parquet", 1, *command, stderr=subprocess.DEVNULL)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = rows_of(tmp_path / "out")
    assert 0 < len(done) < COUNT

    again = subprocess.run([sys.executable, "-m", "hear_axlstm", *map(str, command)], capture_output=True, text=True)
    there = len(done.keys() - {"broken.wav"})
    assert f"{COUNT - there} sounds embedded, {there} " in again.stderr
    assert again.returncode == 1  # for the one that is no sound
    rows = rows_of(tmp_path / "out")
    assert rows.keys() == {*NAMES, "broken.wav"}
    np.testing.assert_equal({name: rows[name] for name in done}, done)


def test_a_node_that_dies_is_done_without(cluster, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "POLL", 1.0)
    monkeypatch.setattr(on_ray, "PATIENCE", 5.0)
    node = cluster.add_node(num_cpus=1)
    result = embed_while_one_waits(sounds, tmp_path, lambda _: cluster.remove_node(node, allow_graceful=False))
    assert sorted(result.embedded) == NAMES
    assert rows_of(tmp_path / "out").keys() == {*NAMES, "broken.wav"}


def test_sounds_at_addresses_are_fetched_by_the_actors(cluster, model, sounds, tmp_path):
    pytest.importorskip("fsspec")
    addresses = [f"file://{sounds / name}" for name in [*NAMES[:5], "absent.wav"]]
    result = embed(addresses, model, out=tmp_path / "out", ray=True)
    alone = embed(addresses, model, out=tmp_path / "alone", format="parquet")
    assert result.failures == alone.failures
    np.testing.assert_array_equal(result.durations, alone.durations)
    assert_same_rows(rows_of(tmp_path / "out"), rows_of(tmp_path / "alone"))


def test_what_ray_cannot_do_is_said_before_anything_is_done(cluster, model, sounds, tmp_path):
    with pytest.raises(ConfigError, match="written to a folder; say to which"):
        embed(sounds, model, ray=True)
    with pytest.raises(ConfigError, match="arrays cannot be written"):
        embed([tone(440, 0.5)], model, sample_rate=SAMPLE_RATE, out=tmp_path / "out", ray=True)
    with pytest.raises(ConfigError, match="connected to Ray already; pass ray=True"):
        embed(sounds, model, out=tmp_path / "out", ray="10.0.0.1:6379")
    with pytest.raises(ConfigError, match=r"Ray has no GPUs: .* of 2 CPUs"):
        embed(sounds, model, out=tmp_path / "out", ray=True, device="cuda")
    with pytest.raises(ConfigError, match="device is 'cuda:1'; expected cpu, cuda, auto"):
        embed(sounds, model, out=tmp_path / "out", ray=True, device="cuda:1")
    assert not (tmp_path / "out").exists()


def test_an_address_where_nothing_answers_is_said_at_once(sounds, tmp_path):
    command = [sys.executable, "-m", "hear_axlstm", "embed", sounds, "-o", tmp_path / "out", "--ray", "127.0.0.1:1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)  # Ray itself tries for minutes
    assert ended.returncode == 2
    assert "Ray at 127.0.0.1:1 cannot be reached" in ended.stderr


def test_a_busy_cluster_is_waited_for_and_that_is_said(cluster, model, sounds, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(on_ray, "POLL", 0.5)
    monkeypatch.setattr(on_ray, "PATIENCE", 1.0)
    taken = ray.remote(Busy).options(num_cpus=2).remote()
    ray.get(taken.wait.remote())
    free = threading.Thread(target=lambda: (wait_until(lambda: "no actor has started" in caplog.text), ray.kill(taken)))
    free.start()
    assert sorted(embed(sounds, model, out=tmp_path / "out", ray=True, **SMALL).embedded) == NAMES
    free.join()
    assert "0 of 2 CPUs are free" in caplog.text
