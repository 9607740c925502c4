"""Sound that only FFmpeg reads: decoded by PyAV or the program, and never left out in silence where there is neither."""

import io
import shutil
import subprocess
import sys
import tempfile
import threading
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_axlstm import embed
from hear_axlstm.audio import audio_blocks, audio_seconds, containers, ffmpeg, native_blocks, read_audio
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError
from tests.conftest import noise, tone

needs_ffmpeg = pytest.mark.skipif(not ffmpeg.is_there(), reason="needs the program ffmpeg, which also makes the files")
needs_pyav = pytest.mark.skipif(not containers.has_pyav(), reason="needs PyAV")
CODED = {".m4a": "aac", ".aac": "aac", ".mp4": "alac", ".wma": "wmav2", ".mka": "flac", ".ac3": "ac3"}
LOSSLESS = [
    (".mov", "pcm_s16be", "PCM_16"),
    (".mkv", "pcm_s24le", "PCM_24"),
    (".avi", "pcm_u8", "PCM_U8"),
    (".mka", "pcm_s32le", "PCM_32"),
    (".mka", "pcm_f32le", "FLOAT"),
    (".mka", "pcm_f64le", "DOUBLE"),
    (".mp4", "alac", "PCM_16"),
    (".tta", "tta", "PCM_16"),
    (".wv", "wavpack", "PCM_16"),
]
MORE = {".webm": "libopus", ".3gp": "aac", ".flv": "aac", ".ts": "mp2", ".eac3": "eac3", ".dts": "dca"}


@pytest.fixture(params=["pyav", "program"])
def way(request, monkeypatch):
    """Each test runs with PyAV, and with the program ffmpeg where PyAV is not there."""
    if request.param == "program":
        monkeypatch.setattr(containers, "has_pyav", lambda: False)
    elif not containers.has_pyav():
        pytest.skip("needs PyAV")
    return {"pyav": "PyAV", "program": "ffmpeg"}[request.param]


@cache
def made(codec, suffix, options, source):
    """What ffmpeg makes of the content of a WAV file."""
    command = [shutil.which("ffmpeg"), "-v", "error", "-i", "pipe:0", "-c:a", codec, "-strict", "-2", *options]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, f"{folder}/x{suffix}"], input=source, check=True)
        return (Path(folder) / f"x{suffix}").read_bytes()


def coded(folder, suffix, *options, codec=None, subtype="PCM_16"):
    """A tone of 2 s in stereo at 44.1 kHz, as ffmpeg writes it."""
    wave = np.stack([tone(440, 2, 44_100), 0.5 * tone(700, 2, 44_100)], axis=1)
    soundfile.write(folder / "source.wav", wave, 44_100, subtype=subtype)
    target = folder / f"x: ü{suffix}"
    target.write_bytes(made(codec or CODED[suffix], suffix, options, (folder / "source.wav").read_bytes()))
    return target


def whole(source):
    """The samples at their own rate."""
    blocks = list(native_blocks(source, "it"))
    assert len({rate for rate, _ in blocks}) <= 1
    return (blocks[0][0], np.concatenate([block for _, block in blocks])) if blocks else (0, np.zeros(0, np.float32))


@needs_ffmpeg
@pytest.mark.parametrize("suffix", CODED)
def test_it_is_decoded(tmp_path, suffix, way):
    path = coded(tmp_path, suffix)
    wave, expected = read_audio(path), read_audio(tmp_path / "source.wav")
    assert abs(len(wave) - len(expected)) < 0.08 * SAMPLE_RATE
    assert abs(audio_seconds(path) - 2) < 0.08
    middle = slice(8_000, 24_000)
    assert np.corrcoef(np.abs(np.fft.rfft(wave[middle])), np.abs(np.fft.rfft(expected[middle])))[0, 1] > 0.99


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "codec", "subtype"), LOSSLESS)
def test_what_is_lossless_is_equal_to_the_last_bit(tmp_path, suffix, codec, subtype, way):
    path = coded(tmp_path, suffix, codec=codec, subtype=subtype)
    rate, wave = whole(path)
    expected = soundfile.read(tmp_path / "source.wav", dtype="float32")[0].mean(axis=1, dtype=np.float32)
    assert rate == 44_100
    np.testing.assert_array_equal(wave, expected)
    np.testing.assert_array_equal(read_audio(path), read_audio(tmp_path / "source.wav"))


@needs_ffmpeg
@needs_pyav
@pytest.mark.parametrize(("suffix", "codec"), [*CODED.items(), *MORE.items()])
def test_pyav_and_the_program_give_the_same_samples(tmp_path, suffix, codec, monkeypatch):
    path = coded(tmp_path, suffix, codec=codec)
    rate, wave = whole(path)
    seconds = audio_seconds(path)
    monkeypatch.setattr(containers, "has_pyav", lambda: False)
    other_rate, other = whole(path)
    assert rate == other_rate
    np.testing.assert_allclose(wave, other, rtol=0, atol=1e-6)  # of two versions of FFmpeg
    assert seconds == pytest.approx(audio_seconds(path), abs=1e-3)


@needs_ffmpeg
@needs_pyav
def test_it_is_read_from_memory_from_open_files_and_from_pipes(golden, tmp_path):
    path, model = coded(tmp_path, ".m4a"), golden("ssast").model()
    content, expected = path.read_bytes(), embed([path], model).matrix[0]
    assert audio_seconds(io.BytesIO(content)) == audio_seconds(path)
    feed = [sys.executable, "-c", f"import sys; sys.stdout.buffer.write(open({str(path)!r}, 'rb').read())"]
    with open(path, "rb") as file, subprocess.Popen(feed, stdout=subprocess.PIPE) as process:
        row = {"audio": {"bytes": content, "path": "it.m4a"}}
        result = embed([content, io.BytesIO(content), file, process.stdout, row], model)
    assert result.failures == {}
    np.testing.assert_allclose(result.matrix, np.tile(expected, (5, 1)), atol=1e-5)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["x.wav", "x", "x.mp3"])
def test_what_is_called_otherwise_is_known_by_its_content(tmp_path, name, way):
    path = coded(tmp_path, ".m4a").rename(tmp_path / name)
    (tmp_path / "x.m4a").write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read_audio(path), read_audio(tmp_path / "x.m4a"))
    assert audio_seconds(path) == audio_seconds(tmp_path / "x.m4a")


@needs_ffmpeg
@needs_pyav
def test_samples_that_look_like_mpeg_frames_are_known_by_their_container(tmp_path):
    """Random integers of 32 bits in Matroska have some; and ALAC in CAF, of which libsndfile does not know all."""
    soundfile.write(tmp_path / "noise.wav", 0.5 * noise(2, 88_200).numpy().T, 44_100, subtype="PCM_32")
    expected = whole(tmp_path / "noise.wav")[1]
    for codec, suffix, options in (("pcm_s32le", ".mka", ()), ("alac", ".caf", ("-sample_fmt", "s32p"))):
        content = made(codec, suffix, options, (tmp_path / "noise.wav").read_bytes())
        np.testing.assert_allclose(whole(io.BytesIO(content))[1], expected, rtol=0, atol=2**-23)
        assert audio_seconds(io.BytesIO(content), "it") == pytest.approx(2, abs=0.1)


@needs_ffmpeg
def test_a_film_gives_its_first_sound(tmp_path, way):
    first, second = (tmp_path / f"{pitch}.wav" for pitch in (440, 880))
    for pitch, path in ((440, first), (880, second)):
        soundfile.write(path, tone(pitch, 1, 8_000), 8_000)
    pictures = ["-f", "lavfi", "-i", "color=size=16x16:duration=1"]
    tracks = ["-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:a", "pcm_s16le", "-c:v", "mpeg4"]
    command = [shutil.which("ffmpeg"), "-v", "error", *pictures, "-i", first, "-i", second, *tracks, tmp_path / "film.mkv"]
    subprocess.run(command, check=True)
    np.testing.assert_array_equal(whole(tmp_path / "film.mkv")[1], whole(first)[1])
    silent = [shutil.which("ffmpeg"), "-v", "error", *pictures, "-c:v", "mpeg4", tmp_path / "silent.mp4"]
    subprocess.run(silent, check=True)
    for function in (read_audio, audio_seconds):
        with pytest.raises(AudioError, match=r"silent\.mp4: it has no audio track; leave it out"):
            function(tmp_path / "silent.mp4")


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".mka", ".wma"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.8])
def test_what_is_cut_fails(tmp_path, suffix, kept, way):
    path = coded(tmp_path, suffix, *(["-movflags", "+faststart"] if suffix == ".m4a" else []))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(AudioError, match=r"x: ü\..*; replace the file"):
        read_audio(path)


@needs_ffmpeg
@needs_pyav
@pytest.mark.parametrize("suffix", [".m4a", ".mka", ".mkv", ".wma", ".ts", ".wv"])
def test_pyav_refuses_what_the_program_refuses(tmp_path, suffix, monkeypatch):
    """Cut, or with some bytes changed or missing."""
    codec = {".mkv": "libopus", ".ts": "mp2", ".wv": "wavpack"}.get(suffix)
    content, rng = coded(tmp_path, suffix, codec=codec).read_bytes(), np.random.default_rng(zlib.crc32(suffix.encode()))
    path = tmp_path / f"damaged{suffix}"

    def outcome():
        try:
            return whole(path)[1]
        except AudioError:
            return None

    for _ in range(6):
        place, damaged = int(rng.integers(len(content))), bytearray(content)
        damage = rng.choice(["cut", "changed", "missing"])
        if damage == "cut":
            del damaged[place:]
        elif damage == "changed":
            damaged[place : place + 8] = rng.bytes(min(8, len(content) - place))
        else:
            del damaged[place : place + 500]
        path.write_bytes(damaged)
        ours = outcome()
        with monkeypatch.context() as patch:
            patch.setattr(containers, "has_pyav", lambda: False)
            other = outcome()
        assert (ours is None) == (other is None), (damage, place)
        if ours is not None:
            np.testing.assert_allclose(ours, other, rtol=0, atol=1e-6)


@needs_ffmpeg
def test_what_holds_no_sound_fails(tmp_path, way):
    (tmp_path / "text.m4a").write_text("nothing of the kind")
    (tmp_path / "list.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\nhttp://localhost/t.aac\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(AudioError, match=rf"text\.m4a: cannot be decoded \({way}: "):
        read_audio(tmp_path / "text.m4a")
    with pytest.raises(AudioError, match=r"list\.mp4: (it is of none of the kinds that hold sound|cannot be decoded)"):
        read_audio(tmp_path / "list.mp4")
    with pytest.raises(AudioError, match="no such file"):
        read_audio(tmp_path / "absent.m4a")


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {}\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><Representation>'
    "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
}


@needs_ffmpeg
@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("name", ["list.mp4", "list.wav", "bytes"])
def test_no_file_leads_to_another(tmp_path, kind, name, way):
    other = coded(tmp_path, ".m4a").rename(tmp_path / "other.m4a")
    content = PLAYLISTS[kind].format(other).encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=r"none of the kinds|cannot be decoded"):
        read_audio(io.BytesIO(content) if name == "bytes" else tmp_path / name, "it")


@needs_ffmpeg
def test_it_comes_block_by_block_and_the_program_ends_with_the_reader(tmp_path, monkeypatch, way):
    monkeypatch.setattr(containers, "BLOCK_SECONDS", 1)
    path = coded(tmp_path, ".mka")
    assert [len(block) for _, block in containers.decoded(path)] == [44_100, 44_100]
    next(blocks := audio_blocks(path))
    blocks.close()


@needs_ffmpeg
@needs_pyav
def test_pyav_decodes_in_many_threads_and_leaves_its_log_as_it_was(tmp_path):
    import av

    good, bad = coded(tmp_path, ".mka"), tmp_path / "bad.mka"
    bad.write_bytes(good.read_bytes()[:20_000])
    expected, before = whole(good)[1], av.logging.get_level()
    found = []

    def work(number):
        try:
            found.append(np.array_equal(whole(bad if number % 2 else good)[1], expected))
        except AudioError:
            found.append(number % 2 == 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 16
    assert av.logging.get_level() == before


@needs_ffmpeg
def test_a_folder_has_them(golden, tmp_path, way):
    path = coded(tmp_path, ".m4a")
    result = embed(tmp_path, golden("ssast").model())
    assert (result.embedded, result.left_out) == (["source.wav", path.name], [])


@needs_ffmpeg
def test_a_long_film_is_embedded_piece_by_piece(golden, tmp_path, way, monkeypatch):
    monkeypatch.setattr("hear_axlstm.files.decode.LONGEST_SECONDS", 1.0)
    path, model = coded(tmp_path, ".mp4"), golden("ssast").model()
    np.testing.assert_allclose(embed(path, model).matrix, embed(tmp_path / "source.wav", model).matrix, atol=1e-5)


def test_without_either_the_message_names_both(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "has_pyav", lambda: False)
    monkeypatch.setattr(ffmpeg, "is_there", lambda: False)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + noise(100).numpy().tobytes())
    with pytest.raises(AudioError, match=r"a\.m4a: .*by PyAV or by the program ffmpeg: pip install 'hear-axlstm\[av\]'"):
        read_audio(tmp_path / "a.m4a")
    with pytest.raises(AudioError, match=r"it: .*Format not recognised.*pip install 'hear-axlstm\[av\]'"):
        read_audio(io.BytesIO((tmp_path / "a.m4a").read_bytes()), "it")
