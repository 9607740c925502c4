"""Sound files, made here in every way that libsndfile writes, and damaged."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from fuzz.case import Case
from fuzz.mutations import mutate

FRAMES = 5_000
VARIANTS = ((16_000, 1), (44_100, 2), (48_000, 1), (8_000, 1))  # sample rate, channels: a pair's first two that it can
WITHOUT_HEADER = {"RAW", "SD2"}  # read only with facts from elsewhere
SUFFIXES = {"NIST": "sph", "SVX": "iff", "IRCAM": "sf", "MAT4": "mat", "MAT5": "mat", "WAVEX": "wav", "RF64": "wav"}
SWAPPED = "wav mp3 flac ogg aiff xi raw sd2 txt".split()
BESIDE_EVERY = 10  # sounds, one is also embedded beside two good ones


@cache
def seeds() -> dict[str, bytes]:
    """The undamaged files by name, always the same bytes: each container and coding at two rates, MP3 in more ways."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for container in soundfile.available_formats():
            for coding in () if container in WITHOUT_HEADER else soundfile.available_subtypes(container):
                made = {}
                for rate, channels in VARIANTS:
                    name = f"{container}-{coding}-{rate}-{channels}.{SUFFIXES.get(container, container).lower()}"
                    if len(made) < 2 and (data := _written(Path(folder, name), rate, channels, container, coding)):
                        made[name] = data
                found |= made
        for mode in ("CONSTANT", "AVERAGE", "VARIABLE"):
            name = f"MP3-{mode}.mp3"
            data = _written(Path(folder, name), 44_100, 1, "MP3", "MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5)
            if data:
                found[name] = data
    return found


def _written(path: Path, rate: int, channels: int, container: str, coding: str, **options: object) -> bytes:
    """The bytes of a small file, without what depends on the time of writing; empty where libsndfile cannot write it."""
    random = np.random.default_rng(0)
    frames = FRAMES * (4 if container == "MP3" else 1)
    waves = [np.sin(np.arange(frames) / (5 + 3 * c)) / 3 + random.normal(0, 0.02, frames) for c in range(channels)]
    try:
        soundfile.write(path, np.stack(waves, 1), rate, format=container, subtype=coding, **options)
        soundfile.info(path)
    except (soundfile.SoundFileError, ValueError):
        return b""
    data = path.read_bytes()
    data = re.sub(rb"(PEAK.{8}).{4}", rb"\1\0\0\0\0", data, count=1, flags=re.DOTALL)  # a chunk of float files has the time
    data = re.sub(rb"(written by libsndfile-\S+, )[^\0]{20}", rb"\1" + b" " * 20, data)
    return sealed_ogg(data, serial=1)


def sealed_ogg(data: bytes, serial: int | None = None) -> bytes:
    """An Ogg file with checksums that hold, so that a reader goes on to what they protect; any other file as it is."""
    whole, start = bytearray(data), 0
    while whole[start : start + 4] == b"OggS" and len(whole) > start + 27:
        end = start + 27 + whole[start + 26]
        end += sum(whole[start + 27 : end])
        if serial is not None:
            whole[start + 14 : start + 18] = serial.to_bytes(4, "little")
        whole[start + 22 : start + 26] = bytes(4)
        whole[start + 22 : start + 26] = _ogg_checksum(whole[start:end]).to_bytes(4, "little")
        start = end
    return bytes(whole)


@cache
def _ogg_table() -> list[int]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 1 << 31 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


def _ogg_checksum(page: bytes) -> int:
    table, value = _ogg_table(), 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ byte]
    return value


def case(seed: int, index: int) -> Case:
    """The sound of this number: the same file for the same numbers, wherever it is made with the same libsndfile."""
    random, files = Random(f"{seed} sound {index}"), seeds()  # noqa: S311 - not for secrets
    name, other = random.choice(list(files)), random.choice(list(files))
    if random.random() < 0.3:  # two of a kind, for joining and splicing
        other = random.choice([key for key in files if key.split("-")[0] == name.split("-")[0]])
    data, how = mutate(files[name], random, files[other])
    if data.startswith(b"OggS") and random.random() < 0.7:
        data, how = sealed_ogg(data), how + "+sealed"
    suffix = Path(name).suffix
    if random.random() < 0.05:
        suffix = "." + random.choice(SWAPPED)
        how += "+suffix"
    facts = {"beside": index % BESIDE_EVERY == 0}
    return Case("sound", f"sound-{seed}-{index}", suffix, f"{name} {how}", data, facts)
