"""A file read as a user's would be, in a process that may die of it, and the judgement of what came out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

import hear_axlstm
from fuzz.case import Verdict
from hear_axlstm import audio
from hear_axlstm.config import SAMPLE_RATE, AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import HearAxlstmError

FRAMES_PER_BYTE = {"FLAC": 20_000, "CAF": 20_000, "OGG": 20_000, "MP3": 120}  # what silence may be coded in
FRAMES_PER_BYTE_ELSEWHERE = 16
ADPCM_BLOCK = 8_192  # frames: the last one may have been cut
LONGEST_MESSAGE = 4_000  # characters
EDGE = 60  # samples before resampling, which makes another end of them where more follow
LOST = 3_000  # samples at 16 kHz: a few frames around damage
RESAMPLED_ALIKE = 1e-3  # of the largest sample: in blocks, and at once
EMBEDDED_ALIKE = 1e-6


def refusal(error: Exception, path: Path) -> Verdict:
    """Whether an error is one of ours that names the file."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        return Verdict("memory", text)
    if not isinstance(error, HearAxlstmError):
        return Verdict("unnamed", text[:LONGEST_MESSAGE])
    if path.name not in str(error):
        return Verdict("unnamed", f"does not name the file: {text[:LONGEST_MESSAGE]}")
    if len(text) > LONGEST_MESSAGE:
        return Verdict("unnamed", f"a message of {len(text)} characters: {text[:200]}")
    if "weights_only" in text:
        return Verdict("unnamed", f"advises to unpickle: {text}")
    return Verdict("refused", text)


def sound(path: Path, beside: bool = False) -> Verdict:
    """Read a sound: by its header, whole, and, ``beside`` two good ones, as a user embeds it."""
    verdict = read_sound(path)
    if beside and verdict.kind in {"ok", "refused"}:
        trouble = embedded_beside(path, verdict.kind)
        return trouble or verdict
    return verdict


def read_sound(
    path: Path,
    seconds: Callable[[Path], float] = audio.audio_seconds,
    read: Callable[[Path], audio.Wave] = audio.read_audio,
) -> Verdict:
    """What the two functions make of a file, beside what libsndfile delivers of it."""
    try:
        promised = seconds(path)
    except Exception as error:
        if (verdict := refusal(error, path)).kind != "refused":
            return verdict
        promised = None
    try:
        wave = read(path)
    except Exception as error:
        return refusal(error, path)
    if not np.isfinite(wave).all():
        return Verdict("wrong", "holds NaN or infinity")
    if promised is not None and not 0 <= promised < float("inf"):
        return Verdict("wrong", f"a duration of {promised} s")
    container, rate, truth = delivered(path, len(wave))
    size, frames = path.stat().st_size, len(wave) / SAMPLE_RATE * rate
    if frames > FRAMES_PER_BYTE.get(container, FRAMES_PER_BYTE_ELSEWHERE) * size + ADPCM_BLOCK:
        return Verdict("wrong", f"{frames:.0f} frames out of {size} bytes of {container}")
    compared = wave
    if container == "SDS" and len(truth) > len(wave):  # libsndfile makes up the frames that were cut off
        edge = EDGE * SAMPLE_RATE // rate + EDGE
        compared, truth = (samples[: max(len(wave) - edge, 1)] for samples in (wave, truth))
    # Of a recording that was never closed, whose header promises nothing, libsndfile delivers nothing.
    if len(truth) and (difference := unlike(compared, truth, streamed=container in {"MP3", "OGG"})):
        return Verdict("wrong", f"{difference} ({promised} s by its header)")
    return Verdict("ok", f"{len(wave)} samples, {promised} s by its header", hashlib.sha256(wave).hexdigest())


def delivered(path: Path, enough: int) -> tuple[str, int, audio.Wave]:
    """What libsndfile makes of a file: its container, its rate, and little more than ``enough`` samples at 16 kHz.

    MPEG audio comes through a pipe as well, where libsndfile reads on whatever its header says; the longer one counts.
    """
    with open(path, "rb") as file:  # by its content: a suffix makes libsndfile take anything for raw samples
        found = _in_blocks(file.fileno(), enough)
    if found[0] == "MP3":
        reader, writer = os.pipe()
        threading.Thread(target=_pour, args=(path, writer)).start()
        with open(reader, "rb"):
            found = max(found, _in_blocks(reader, enough), key=lambda one: len(one[2]))
    return found


def _in_blocks(source: int, enough: int) -> tuple[str, int, audio.Wave]:
    """What libsndfile reads one block after the other, until it ends, fails or has given enough."""
    container, rate, blocks, count = "", SAMPLE_RATE, [np.zeros(0, np.float32)], 0
    with suppress(soundfile.SoundFileError), soundfile.SoundFile(source, closefd=False) as file:
        file.seekable = lambda: False  # soundfile would seek to where it is after each read, which some files cannot
        container, rate = file.format, file.samplerate
        while count / rate < enough / SAMPLE_RATE + 1:
            rest = file.frames - count  # asked for more than the header promises, some decoders fail and give nothing
            block = file.read(out=np.zeros((min(4096, rest) if rest > 0 else 4096, file.channels), np.float32))
            if not len(block):
                break
            blocks.append(block.mean(1))
            count += len(block)
    wave = np.concatenate(blocks)
    return container, rate, wave if rate == SAMPLE_RATE else soxr.resample(wave, rate, SAMPLE_RATE)


def _pour(path: Path, pipe: int) -> None:
    with suppress(BrokenPipeError), open(path, "rb") as file, open(pipe, "wb", buffering=0) as target:
        shutil.copyfileobj(file, target)


def unlike(wave: audio.Wave, truth: audio.Wave, streamed: bool) -> str:
    """How a sound differs from what libsndfile delivers, by more than resampling in blocks does.

    streamed: made of frames that a decoder may find again after damage; then there may be more, and not much less.
    """
    missing = len(truth) - len(wave)
    if missing > (LOST if streamed else 2) or (missing < -2 and not streamed):
        return f"{len(wave)} samples, libsndfile delivers {len(truth)}"
    common = 0 if streamed else min(len(wave), len(truth))
    deviation = np.abs(wave[:common] - truth[:common]).max(initial=0)
    if deviation > RESAMPLED_ALIKE * np.abs(truth).max(initial=0):
        return f"differs by {deviation:.2g} from what libsndfile delivers"
    return ""


@cache
def mates() -> tuple[hear_axlstm.Embedder, list[Path], dict[str, np.ndarray]]:
    """A small model, two good sounds, and their embeddings by name."""
    torch.manual_seed(0)
    model = hear_axlstm.Embedder(Encoder(AxLSTMConfig(width=16, depth=1)), backend="torch").eval()
    paths = []
    for name, rate, seconds in (("good-a.wav", 16_000, 0.7), ("good-b.flac", 44_100, 1.3)):
        path = Path(f"mates-{os.getpid()}", name)
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.random.default_rng(rate).uniform(-0.5, 0.5, int(rate * seconds)), rate)
        paths.append(path)
    alone = hear_axlstm.embed(paths, model)
    return model, paths, dict(zip(alone.names, alone.embeddings, strict=True))


def embedded_beside(path: Path, kind: str) -> Verdict | None:
    """What is wrong with the embeddings of a file and of two good ones around it; None where nothing is."""
    model, (first, second), alone = mates()
    try:
        together = hear_axlstm.embed([first, path, second], model)
    except Exception as error:
        return Verdict("unnamed", f"ends the run: {type(error).__name__}: {error}")
    found = {name: row for name, row in zip(together.names, together.embeddings, strict=True) if row is not None}
    for name, embedding in alone.items():
        if name not in found or not np.abs(found[name] - embedding).max() <= EMBEDDED_ALIKE:
            return Verdict("wrong", f"beside it {name} has another embedding, or none: {together.failures}")
    own = [row for name, row in found.items() if name not in alone]
    failures = [text for name, text in together.failures.items() if name not in alone]
    if len(own) + len(failures) != 1:
        return Verdict("wrong", f"embedded {len(own)} times, failed {len(failures)} times")
    if own and not np.isfinite(own[0]).all():
        return Verdict("wrong", "its embedding is not finite")
    if own and kind == "refused":
        return Verdict("wrong", "embedded, although it cannot be read")
    if failures and not (path.name in failures[0] or path.name in "".join(together.failures)):
        return Verdict("unnamed", f"does not name the file: {failures[0]}")
    return None


def weights(path: Path) -> Verdict:
    """Load weights, and hash all that a model and its user see of them."""
    try:
        model = hear_axlstm.load_model(path)
        header = hear_axlstm.weights.load.read_header(path)
    except Exception as error:
        return refusal(error, path)
    return Verdict("ok", str(model.encoder.config), content_of(model, header["provenance"]))


def content_of(model: hear_axlstm.Embedder, provenance: Any) -> str:
    """The hash of a model's tensors and configuration, its layout and where it comes from."""
    told = [model.layout, provenance]
    text = hear_axlstm.weights.save.fingerprint(model.encoder) + json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def checkpoint(path: Path, options: dict[str, Any]) -> Verdict:
    """Convert a checkpoint, load what came out, and hash it."""
    target = Path(f"{path}.safetensors")
    try:
        hear_axlstm.convert_checkpoint(path, target, **options)
        model = hear_axlstm.load_model(target)
        provenance = hear_axlstm.weights.load.read_header(target)["provenance"]
        verdict = Verdict("ok", str(model.encoder.config), content_of(model, provenance["epoch"]))
    except Exception as error:
        verdict = refusal(error, path)
        if target.exists():
            verdict = Verdict("wrong", f"refused, but there is a file: {verdict.detail}")
    target.unlink(missing_ok=True)
    if Path("ran").exists():
        Path("ran").unlink()
        return Verdict("wrong", "ran what the file says")
    return verdict
