"""Sounds at addresses: fetched whole by fsspec when somebody passes one, and never because a file or a row names it."""

import builtins
import io
import logging
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_axlstm import embed, load_embeddings, similarity
from hear_axlstm.audio import addresses, sound_seconds, to_wave
from hear_axlstm.audio.addresses import is_address, name_at
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files import plan
from tests.conftest import tone

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def model(golden):
    return golden("ssast").model()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def site(tmp_path):
    """A server of this machine, with two sounds, and what was asked of it."""
    pytest.importorskip("aiohttp")
    folder = tmp_path / "site" / "birds"
    folder.mkdir(parents=True)
    for name, pitch in (("a wren.wav", 440), ("owl.flac", 220)):
        soundfile.write(folder / name, tone(pitch, 0.7, 44_100), 44_100)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder.parent))
    server.asked, server.folder = [], folder
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def memory(sound_folder):
    """fsspec's own memory, with the three sounds of a folder."""
    files = fsspec.filesystem("memory")
    for path in sound_folder.rglob("*.*"):
        files.pipe(f"/sounds/{path.name}", path.read_bytes())
    yield "memory://sounds"
    files.rm("/sounds", recursive=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://here.org/a.wav", "a.wav"),
        ("https://here.org/b/a%20wren.wav?size=1#t", "a wren.wav"),
        ("s3://bucket/a.wav", "a.wav"),
        ("memory://a.wav", "a.wav"),
        ("zip://in/a.wav::https://here.org/x.zip", "a.wav"),
        ("simplecache::https://here.org/a.wav", "a.wav"),
        ("git+https://here.org", "here.org"),
        ("birds/a.wav", None),
        ("/a:/b.wav", None),
        ("C://a.wav", None),
        ("a.wav::b", None),
        ("", None),
    ],
)
def test_an_address_is_told_from_a_path_and_named_by_its_last_part(text, expected):
    assert (name_at(text) if is_address(text) else None) == expected


def test_sounds_are_fetched_from_a_server(model, site):
    places = [f"{site.address}/birds/a%20wren.wav?x=1", f"{site.address}/birds/owl.flac"]
    result = embed(places, model)
    assert (result.names, result.paths, result.failures) == (["a wren.wav", "owl.flac"], places, {})
    assert len([path for path in site.asked if "owl" in path]) == 1  # though its duration is asked for first
    files = [site.folder / "a wren.wav", site.folder / "owl.flac"]
    np.testing.assert_array_equal(result.matrix, embed(files, model).matrix)
    np.testing.assert_array_equal(to_wave(places[1]), to_wave(files[1]))
    assert sound_seconds(places[1]) == pytest.approx(0.7)


@pytest.mark.parametrize("address", [Path.as_uri, lambda path: f"file://{path}"], ids=["quoted", "as it is"])
def test_files_are_addresses_as_well(model, tmp_path, sound_folder, address):
    path = tmp_path / "a wren, 50%20 #1?.flac"
    path.write_bytes((sound_folder / "b.flac").read_bytes())
    np.testing.assert_array_equal(embed(address(path), model).matrix, embed(path, model).matrix)


def test_one_address_is_one_sound(model, memory, sound_folder):
    expected = embed(sound_folder / "a.wav", model).matrix
    np.testing.assert_array_equal(embed(f"{memory}/a.wav", model).matrix, expected)
    assert similarity(f"{memory}/a.wav", str(sound_folder / "a.wav")) == pytest.approx(1, abs=1e-5)
    local = embed(f"file://{sound_folder}/a.wav", model)
    np.testing.assert_array_equal(local.matrix, expected)
    assert local.names == ["a.wav"]


def test_addresses_are_mixed_with_other_sounds_and_told_apart(model, memory, sound_folder):
    sounds = [f"{memory}/a.wav", sound_folder / "b.flac", "file:///nowhere/a.wav", (tone(440, 0.5), 16_000)]
    result = embed(sounds, model)
    assert result.names == [sounds[0], "b.flac", sounds[2], "3"]
    assert result.failures == {sounds[2]: "there is nothing at this address; mend it"}
    assert np.isfinite(result.durations).tolist() == [True, True, False, True]


def test_few_are_held_at_a_time(model, memory, monkeypatch):
    """Of a list of addresses, as of a generator."""
    held, most = 0, 0

    class Counted(io.BytesIO):
        def __del__(self):
            nonlocal held
            held -= 1

    def fetch(address):
        nonlocal held, most
        held += 1
        most = max(most, held)
        return Counted(fetched(address).read())

    fetched = addresses.fetched
    monkeypatch.setattr("hear_axlstm.audio.convert.fetched", fetch)
    result = embed([f"{memory}/c.ogg"] * 80, model, batch_seconds=2)
    assert (len(result), result.failures) == (80, {})
    assert most < 40


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("{site}/birds/absent.wav", "there is nothing at this address; mend it"),
        ("{site}/birds", "cannot be decoded"),
        ("http://127.0.0.1:1/a.wav?token=secret", "cannot be fetched (ConnectionRefusedError: "),
        ("nosuch://a.wav", "cannot be fetched (ValueError: Protocol not known: nosuch"),
        ("memory://absent.wav", "there is nothing at this address"),
    ],
)
def test_what_cannot_be_fetched_is_a_failure_that_says_why(model, site, address, why, caplog):
    address = address.format(site=site.address)
    with caplog.at_level(logging.WARNING):
        result = embed([address, (tone(440, 0.5), 16_000)], model)
    (failure,) = result.failures.values()
    assert failure.startswith(why)
    assert "secret" not in failure
    assert result.ok.tolist() == [False, True]
    with pytest.raises(AudioError, match=r"^it: "):
        to_wave(address, name="it")


@pytest.mark.parametrize(("package", "install"), [("aiohttp", "'hear-axlstm\\[urls\\]'"), ("s3fs", "s3fs")])
def test_what_fetches_from_there_is_named_where_it_is_missing(monkeypatch, package, install):
    def missing(*_):
        raise ImportError("please install it") from ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(fsspec, "open", missing)
    with pytest.raises(AudioError, match=rf"is fetched by {package}, which is missing: pip install {install}, or"):
        to_wave("https://here.org/a.wav")


def test_more_than_the_bound_is_refused(memory, monkeypatch):
    monkeypatch.setattr(addresses, "LARGEST", 1_000)
    with pytest.raises(AudioError, match=r"^it: holds more than 0 GB; download it, and pass the file"):
        to_wave(f"{memory}/a.wav", name="it")


def test_large_ones_go_to_a_temporary_file(memory, sound_folder, monkeypatch):
    monkeypatch.setattr(addresses, "IN_MEMORY", 1_000)
    assert not isinstance(addresses.fetched(f"{memory}/a.wav"), io.BytesIO)
    np.testing.assert_array_equal(to_wave(f"{memory}/a.wav"), to_wave(sound_folder / "a.wav"))


def test_nothing_is_fetched_because_a_row_names_it(model, site):
    address = f"{site.address}/birds/owl.flac"
    rows = [{"audio": address}, {"path": address, "bytes": None}, {"audio": {"path": address, "bytes": None}}]
    result = embed(rows, model)
    assert list(result.failures) == ["0", "1", "2"]
    assert all(why.startswith("its path is an address, and none is fetched") for why in result.failures.values())
    assert site.asked == []


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_they_are_written_to_a_folder_and_not_fetched_again(model, memory, sound_folder, tmp_path, format, monkeypatch):
    fetches, fetched = [], addresses.fetched
    monkeypatch.setattr("hear_axlstm.audio.convert.fetched", lambda address: [fetches.append(address), fetched(address)][1])
    places = [f"{memory}/b.flac", f"{memory}/absent.wav", f"{memory}/a.wav"]
    run = lambda **options: embed(places, model, out=tmp_path / "out", format=format, **options)  # noqa: E731
    result = run()
    assert (result.embedded, result.failures) == (
        ["b.flac", "a.wav"],
        {"absent.wav": "there is nothing at this address; mend it"},
    )
    assert sorted(fetches) == sorted(places)
    found = load_embeddings(tmp_path / "out")
    found = found[found.ok]
    assert (found.names, found.paths) == (["a.wav", "b.flac"], [places[2], places[0]])
    np.testing.assert_allclose(found.matrix, embed(sorted(sound_folder.glob("*.*")), model).matrix, atol=1e-5)
    fetches.clear()
    again = run()
    assert (again.skipped, again.embedded, again.failures) == (["b.flac", "a.wav"], [], result.failures)
    assert fetches == ([places[1]] if format == "npy" else [])  # parquet records what failed
    fetches.clear()
    assert run(retry=True).failures == result.failures
    assert fetches == [places[1]]


def test_a_folder_at_an_address_is_listed(model, memory, sound_folder, tmp_path):
    files = fsspec.filesystem("memory")
    files.pipe("/sounds/below/deep/.hidden.wav", b"")
    files.pipe("/sounds/below/deep/a.wav", (sound_folder / "a.wav").read_bytes())
    files.pipe("/sounds/notes.txt", b"no sound")
    names = ["a.wav", "b.flac", "c.ogg", "below/deep/a.wav"]
    result = embed(f"{memory}/", model, out=tmp_path / "out")
    assert (result.embedded, result.failures) == (names, {})
    assert [str(path) for path in result.left_out] == ["memory:/sounds/notes.txt"]
    assert embed(memory, model, out=tmp_path / "out").skipped == names
    files.pipe("/sounds/c.ogg", (sound_folder / "b.flac").read_bytes())  # its size and its time are in the listing
    assert embed(memory, model, out=tmp_path / "out").embedded == ["c.ogg"]
    (tmp_path / "all.txt").write_text(f"# birds\n{memory}\n{memory}/a.wav\n")
    assert plan(tmp_path / "all.txt").names == [f"sounds/{name}" for name in names] + ["sounds/a.wav"]


def test_a_folder_that_is_a_file_address_is_a_folder(model, sound_folder):
    for address in (sound_folder.as_uri(), f"file://{sound_folder}/"):
        assert embed(address, model).names == ["a.wav", "b.flac", "below/c.ogg"]


def test_arrays_are_not_written_to_a_folder(model, memory, tmp_path):
    with pytest.raises(ConfigError, match=r"^arrays cannot be written to a folder; embed them without out"):
        embed([(tone(440, 0.5), 16_000)], model, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = embed([(tone(440, 0.5), 16_000), f"{memory}/a.wav"], model, out=tmp_path / "out")
    assert (result.failures, result.embedded) == (
        {"0": "arrays cannot be written to a folder; save the sound to a file"},
        ["a.wav"],
    )


def test_a_plan_holds_what_it_fetched(memory):
    planned = plan([f"{memory}/a.wav", f"{memory}/c.ogg"])
    assert planned.names == ["a.wav", "c.ogg"]
    assert all(isinstance(sound.samples, io.BytesIO) for batch in planned.batches for sound in batch)


def test_without_fsspec_the_message_names_the_extra(model, monkeypatch):
    load = builtins.__import__

    def without(name, *rest, **options):
        if name == "fsspec":
            raise ImportError(name)
        return load(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AudioError, match=r"^it: is an address, which fsspec fetches: pip install 'hear-axlstm\[urls\]'"):
        to_wave("https://here.org/a.wav", name="it")
    assert "hear-axlstm[urls]" in embed(["https://here.org/a.wav"], model).failures["a.wav"]
