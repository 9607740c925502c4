"""Sound that only ffmpeg reads: decoded where that is there, and never left out in silence where it is not."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from hear_axlstm import embed
from hear_axlstm.audio import audio_blocks, audio_seconds, ffmpeg, read_audio
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError
from tests.conftest import tone

needs_ffmpeg = pytest.mark.skipif(not ffmpeg.is_there(), reason="needs ffmpeg")
CODED = {".m4a": "aac", ".aac": "aac", ".mp4": "alac", ".wma": "wmav2", ".mka": "flac", ".ac3": "ac3"}


def coded(folder, suffix, *options):
    """A tone of 2 s in stereo at 44.1 kHz, as ffmpeg writes it."""
    soundfile.write(folder / "source.wav", np.stack([tone(440, 2, 44_100)] * 2, axis=1), 44_100)
    target = folder / f"x: ü{suffix}"
    program = shutil.which("ffmpeg")
    command = [program, "-v", "error", "-y", "-i", folder / "source.wav", "-c:a", CODED[suffix], *options, f"file:{target}"]
    subprocess.run(command, check=True)
    return target


@needs_ffmpeg
@pytest.mark.parametrize("suffix", CODED)
def test_it_is_decoded(tmp_path, suffix):
    path = coded(tmp_path, suffix)
    wave, expected = read_audio(path), read_audio(tmp_path / "source.wav")
    assert abs(len(wave) - len(expected)) < 0.08 * SAMPLE_RATE
    assert abs(audio_seconds(path) - 2) < 0.08
    middle = slice(8_000, 24_000)
    assert np.corrcoef(np.abs(np.fft.rfft(wave[middle])), np.abs(np.fft.rfft(expected[middle])))[0, 1] > 0.99


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".mka", ".wma"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.8])
def test_what_is_cut_fails(tmp_path, suffix, kept):
    path = coded(tmp_path, suffix, *(["-movflags", "+faststart"] if suffix == ".m4a" else []))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(AudioError, match=r"x: ü\..*; replace the file"):
        read_audio(path)


@needs_ffmpeg
def test_what_holds_no_sound_fails(tmp_path):
    (tmp_path / "text.m4a").write_text("nothing of the kind")
    (tmp_path / "list.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\nhttp://localhost/t.aac\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(AudioError, match=r"text\.m4a: cannot be decoded \(ffmpeg: "):
        read_audio(tmp_path / "text.m4a")
    with pytest.raises(AudioError, match=r"list\.mp4: it is of none of the kinds that hold sound"):
        read_audio(tmp_path / "list.mp4")
    with pytest.raises(AudioError, match="no such file"):
        read_audio(tmp_path / "absent.m4a")


@needs_ffmpeg
def test_it_comes_block_by_block_and_the_program_ends_with_the_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(ffmpeg, "BLOCK_SECONDS", 1)
    path = coded(tmp_path, ".mka")
    assert [len(block) for _, block in ffmpeg.decoded(path)] == [44_100, 44_100]
    next(blocks := audio_blocks(path))
    blocks.close()


@needs_ffmpeg
def test_a_folder_has_them(golden, tmp_path):
    path = coded(tmp_path, ".m4a")
    result = embed(tmp_path, golden("ssast").model())
    assert (result.embedded, result.left_out) == (["source.wav", path.name], [])
