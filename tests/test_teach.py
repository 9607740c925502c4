"""scripts/teach.py: shards with what teachers say beside each clip."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_axlstm.pretraining import write_shards
from hear_axlstm.pretraining.shard_clips import ShardClips
from tests.conftest import ROOT


def test_every_clip_gets_what_its_teachers_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import teach
    from teachers import Teacher

    random = np.random.default_rng(0)
    for number, samples in enumerate([32_000, 1_000]):
        soundfile.write(tmp_path / f"{number}.flac", random.uniform(-0.5, 0.5, samples), 16_000)
    for kind in ("speech", "music"):
        write_shards([tmp_path / "0.flac", tmp_path / "1.flac"], tmp_path / "shards" / kind)
    chroma = teach.TEACHERS["chroma"]
    monkeypatch.setattr(teach, "TEACHERS", {"chroma": chroma, "words": Teacher(chroma.load, lambda kind: kind == "speech")})

    place = teach.Place(tmp_path)
    for shard in place.shards:
        teach.ask(place, shard)
    for teacher in teach.TEACHERS:
        teach.fit(place, teacher)
    for shard in place.shards:
        teach.write(place, shard)

    speech, music = (ShardClips([tmp_path / "taught" / kind]) for kind in ("speech", "music"))
    assert (set(speech.sizes), set(music.sizes)) == ({"chroma", "words"}, {"chroma"})
    clips = [music.wave(number) for number in range(2)]
    rows = [music.targets(number, ["chroma"])["chroma"] for number in range(2)]
    assert [len(own) for own in rows] == [-(-len(clip) // 640) for clip in clips]
    written = place.taught("music/shard-000000").stat().st_mtime_ns
    teach.write(place, "music/shard-000000")
    assert place.taught("music/shard-000000").stat().st_mtime_ns == written, "what is there is not made again"


def test_a_row_is_about_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from teachers import chroma

    wave = np.zeros(64_000, np.float32)
    wave[32_000:48_000] = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    (rows,) = chroma.load(Path())([wave])
    strongest = rows[:, :72].argmax(1)
    assert (strongest[50:75] == 33).all(), "A4 is 33 semitones above C2"
    assert not np.concatenate([rows[:40], rows[85:]]).any(), "silence elsewhere"
