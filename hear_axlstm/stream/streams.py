"""Many sounds as they come, in one batch -> their embeddings as soon as these are certain."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.audio import Wave, warn_if_loud
from hear_axlstm.audio.arrays import mixed
from hear_axlstm.audio.files import LOUD
from hear_axlstm.config import CHUNK_FRAMES, HOP, HOP_MS, MIN_SAMPLES, N_FFT, SAMPLE_RATE, check_choice, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.frontend import log_mel_power
from hear_axlstm.hear import unwrapped
from hear_axlstm.ops.backend import threads_of_a_call
from hear_axlstm.patches import steps_from_tokens, timestamp_steps, timestamps_ms
from hear_axlstm.stream.recurrence import Recurrence, reads_forward
from hear_axlstm.stream.sound import Sound
from hear_axlstm.stream.standards import Learnt, Mel, Standard, Statistics, check_statistics
from hear_axlstm.stream.state import from_state, to_state
from hear_axlstm.weights.check import require_values
from hear_axlstm.weights.save import fingerprint

Context = Literal["chunk", "long"]
GREATEST = 1e15  # of samples: the power of greater ones may overflow
PIECE = CHUNK_FRAMES * HOP  # samples that are taken at once: bounds memory for any push
MOST_COLUMNS = 1_600  # patch columns that are encoded at once

logger = logging.getLogger(__name__)


@contextmanager
def _own_modes() -> Iterator[None]:
    """Without gradients, and without the caller's inference mode: what a call keeps serves others later."""
    with torch.inference_mode(False), torch.no_grad():
        yield


class Steps(NamedTuple):
    """Timestamp embeddings, (N, E), float32, in the time layout, and the centres of what each covers, (N,), float64, in ms.

    Times are float64, as a stream may run for days.
    """

    embeddings: Tensor
    times: Tensor


class Streams:
    """Up to ``places`` sounds that come in bits, encoded together; each begins and ends at any time.

    The options are those of ``Stream``. The memory for the state of all places and of one more is taken at once: 4 MB a
    place for axlstm-tiny, 0.8 MB for ssam-tiny.

    >>> streams = Streams(model, 8, statistics="running")  # doctest: +SKIP
    >>> place = streams.start()  # doctest: +SKIP
    >>> streams.push({place: samples})[place].embeddings  # doctest: +SKIP
    """

    @_own_modes()
    def __init__(
        self,
        model: Embedder,
        places: int,
        *,
        statistics: Statistics | tuple[float, float] | Learnt,
        seconds: float = 10.0,
        context: Context = "chunk",
    ) -> None:
        model = unwrapped(model)
        require_values(model.device)
        is_count = isinstance(places, Integral) and not isinstance(places, bool) and places > 0
        require(is_count, f"places is {places!r:.50}; expected how many sounds can be heard at once, 1 or more")
        check_choice("context", context, Context)
        check_statistics(statistics, seconds)
        self.model, self.places, self.context = model, int(places), context
        self._standard = statistics, float(seconds)
        self._sounds: dict[int, Sound] = {}
        self._made_of: list[Any] | None = self._facts()
        self._recurrence: Recurrence | None = None
        if reads_forward(model.encoder):
            with torch.autocast(model.device.type, enabled=False):
                self._recurrence = Recurrence(model.encoder, self.places + 1, model.backend)
            return
        why = "its blocks do not read tokens from the first to the last alone, and it is encoded chunk by chunk"
        require(context == "chunk", f"context='long' cannot be had of this encoder: {why}; leave context out")
        logger.warning("embeddings come every 2 seconds, not every 40 ms: the encoder's %s", why.removeprefix("its "))

    @property
    def latency_ms(self) -> float:
        """How long after a moment has sounded its embedding comes, at most: what must be heard for it, in ms."""
        frames = self._patch_frames if self._recurrence else CHUNK_FRAMES
        return ((frames - 1) * HOP + N_FFT / 2) * 1000 / SAMPLE_RATE

    @_own_modes()
    def start(self, statistics: Statistics | tuple[float, float] | Learnt | None = None) -> int:
        """Begin a sound in a free place, and return the number of that place.

        statistics: of this sound, where it has others. Raises ConfigError when no place is free.
        """
        place = next((place for place in range(self.places) if place not in self._sounds), None)
        if place is None:
            raise ConfigError(f"all {self.places} places are taken; end one, or make Streams with more places")
        if statistics is not None:
            check_statistics(statistics, self._standard[1])
        self._sounds[place] = self._empty(self._standard[0] if statistics is None else statistics, self._standard[1])
        if self._recurrence:
            self._recurrence.begin(place)
        return place

    def end(self, place: int) -> None:
        """Forget the sound in a place, flushed or not, so that another can begin there."""
        self._known(place)
        del self._sounds[place]

    @_own_modes()
    def push(self, blocks: Mapping[int, Any]) -> dict[int, Steps]:
        """Take samples of several sounds, by place, and return what is certain now of each.

        blocks: (n,) each, n >= 0, as ``Stream.push`` has it. Raises AudioError on samples that cannot be analysed, and
        ConfigError on a place where nothing has begun or that is flushed; then nothing of any block is taken.
        """
        require(isinstance(blocks, Mapping), f"blocks is a {type(blocks).__name__}; expected a dict {{place: samples}}")
        self._check_model()
        waves = {place: _checked(samples, self._name(place)) for place, samples in blocks.items()}
        for place in waves:
            if self._whole(place).counted is not None:
                raise ConfigError(f"{self._name(place)} is flushed: its sound has ended; begin another")
        for place, wave in waves.items():
            _warn_once(self._sounds[place], wave, self._name(place))
        sounds = {place: self._sounds[place] for place in waves}
        before = {place: sound.columns for place, sound in sounds.items()}
        found: dict[int, list[Tensor]] = {place: [] for place in waves}
        for sound in sounds.values():
            sound.whole = False
        with threads_of_a_call(self.model.device):
            for start in range(0, max(map(len, waves.values()), default=0), PIECE):
                pieces = {place: wave[start : start + PIECE] for place, wave in waves.items()}
                self._hear(sounds, {place: sounds[place].windows.push(piece) for place, piece in pieces.items()})
                self._encode(sounds, found)
        for sound in sounds.values():
            sound.whole = True
        return {place: self._steps(steps, before[place]) for place, steps in found.items()}

    @_own_modes()
    def flush(self, place: int) -> Steps:
        """End the sound in a place, and return the rest of its steps. ``scene`` is that of the whole from now on.

        Raises AudioError where there are fewer than 201 samples, and ConfigError where nothing has begun.
        """
        self._check_model()
        if self._whole(place).counted is not None:
            return self._steps([], 0)
        steps, self._sounds[place] = self._ended(place)
        return steps

    @_own_modes()
    def scene(self, place: int) -> Tensor:
        """The scene embedding of a sound as if it ended here, as ``get_scene_embeddings`` gives it. Shape: -> (E,), float32.

        It takes as long as the steps to the end of the chunk, at most. Raises AudioError where there are fewer than 201
        samples, and ConfigError where nothing has begun.
        """
        self._check_model()
        sound = self._whole(place)
        ended = sound if sound.counted is not None else self._ended(place)[1]
        return ended.scene().to(self.model.device)

    def state_dict(self, place: int) -> dict[str, Tensor]:
        """All that another place needs to go on with a sound, in tensors, as ``Stream.state_dict`` has it."""
        self._check_model()
        sound = self._whole(place)
        recurrence = self._recurrence.state if self._recurrence else {}
        return to_state(sound, {name: state[place] for name, state in recurrence.items()}, self._about())

    @_own_modes()
    def load_state_dict(self, place: int, state: Mapping[str, Tensor]) -> None:
        """Go on with a sound in a place where one has begun, which is forgotten; else as ``Stream.load_state_dict``."""
        self._known(place)
        recurrence = self._recurrence.state if self._recurrence else {}
        looks = {name: tensor[place] for name, tensor in recurrence.items()}
        sound, own = from_state(state, self._empty(*self._standard), looks, self._about())
        for name, tensor in own.items():
            looks[name].copy_(tensor)
        self._sounds[place] = sound

    def _about(self) -> dict[str, str]:
        """What a state must have been made with to go on here."""
        model = self.model
        dtype = str(model.compute_dtype)
        return {"weights": self._fingerprint, "layout": model.layout, "context": self.context, "dtype": dtype}

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.model.encoder)

    @property
    def _patch_frames(self) -> int:
        return self.model.encoder.config.patch[0]

    def _name(self, place: int) -> str:
        """What people call a place."""
        return "the stream" if self.places == 1 else f"stream {place}"

    def _known(self, place: int) -> Sound:
        if not isinstance(place, Integral) or isinstance(place, bool) or place not in self._sounds:
            raise ConfigError(f"nothing has begun in place {place!r:.50}; start() gives the place of a sound")
        return self._sounds[place]

    def _whole(self, place: int) -> Sound:
        """The sound in a place, which can go on."""
        sound = self._known(place)
        lost = f"{self._name(place)} was interrupted while it took samples, and some are lost"
        require(sound.whole, f"{lost}; end it and start another, or load a state that was saved before")
        return sound

    def _check_model(self) -> None:
        """Raise ConfigError where the model is no more what it was."""
        facts = self._facts()
        self._made_of = self._made_of or facts
        changed = "the model has changed since the stream was made: it was trained, converted, moved or has other options"
        require(self._made_of == facts, f"{changed}; make a new stream, or give each a copy of the model")

    def _facts(self) -> list[Any]:
        """The model's options, where its weights lie, and how often they were written to, as far as torch counts."""
        model = self.model
        written = [(each.data_ptr(), 0 if each.is_inference() else each._version) for each in self._weights]
        return [model.layout, model.compute_dtype, id(model.encoder.cls_token), written]

    @cached_property
    def _weights(self) -> list[Tensor]:
        return list(self.model.encoder.parameters())  # looking them up takes as long as a block

    def __getstate__(self) -> dict[str, Any]:
        """A copy has weights of its own."""
        own = {name: value for name, value in vars(self).items() if name != "_weights"}
        return {**own, "_made_of": None}

    def _empty(self, statistics: Statistics | tuple[float, float] | Learnt, seconds: float) -> Sound:
        """A sound that has heard nothing."""
        model = self.model
        grid = model.encoder.config.grid
        chunk = torch.zeros(grid[0], model.timestamp_embedding_size, device=model.device, dtype=torch.float32)
        return Sound(Standard(statistics, seconds), model.layout, grid, chunk)

    def _hear(self, sounds: Mapping[int, Sound], waves: Mapping[int, Wave]) -> None:
        """Have sounds hear the log-mel frames of whole windows."""
        heard = {place: wave for place, wave in waves.items() if len(wave)}
        dtype = torch.float64 if self.model.compute_dtype == torch.float64 else torch.float32
        for place, mel in zip(heard, _log_mels(list(heard.values()), dtype), strict=True):
            sounds[place].hear(mel)

    def _ready(self, sound: Sound) -> int:
        """How many columns of a sound can be encoded now, in one chunk."""
        columns = len(sound.mel) // sound.patch_frames
        left = sound.grid[0] - sound.place
        return min(columns, left) if self._recurrence or columns >= left else 0

    def _encode(self, sounds: Mapping[int, Sound], found: Mapping[int, list[Tensor]]) -> None:
        """Encode what can be of sounds, by place, and append their steps, (k, E), to what was found of each."""
        while ready := {place: count for place, sound in sounds.items() if (count := self._ready(sound))}:
            columns = min(ready.values())
            places = list(ready)[: max(1, MOST_COLUMNS // columns)]
            chosen = [sounds[place] for place in places]
            starts = torch.tensor([sound.place for sound in chosen], device="cpu")
            mel = torch.from_numpy(np.stack([sound.take(columns) for sound in chosen]))
            for place, sound, steps in zip(places, chosen, self._encoded(places, mel, starts), strict=True):
                found[place].append(steps)
                if sound.add(steps) and self._recurrence and self.context == "chunk":
                    self._recurrence.begin(place)

    def _encoded(self, places: Sequence[int], mel: Tensor, starts: Tensor) -> Tensor:
        """The steps of k columns of S sounds in the time layout.

        Shape: mel (S, k * frames, 80), starts (S,) -> (S, k, E), float32.
        """
        model, config = self.model, self.model.encoder.config
        weights = model.encoder.patch_embed.weight.dtype
        mel = mel.to(model.device, weights if weights == torch.float64 else torch.float32)
        if self._recurrence is None:
            chunks = model.steps(mel, [config.grid[0]] * len(mel), "time", None)
            return torch.cat([steps for _, _, steps in chunks]).float()
        with torch.autocast(model.device.type, dtype=model.compute_dtype, enabled=model.compute_dtype != weights):
            tokens = self._recurrence.advance(places, mel, starts.to(model.device))
        return steps_from_tokens(tokens, (mel.shape[1] // config.patch[0], config.grid[1]), "time").float()

    def _ended(self, place: int) -> tuple[Steps, Sound]:
        """The rest of the steps of a sound that ends here, and that sound; what is here stays as it is."""
        sound = self._sounds[place].copy()
        samples, before, spare = sound.windows.samples, sound.columns, self.places
        if samples < MIN_SAMPLES:
            expected = f"{MIN_SAMPLES} samples ({1000 * MIN_SAMPLES / SAMPLE_RATE:.1f} ms at 16 kHz)"
            raise AudioError(f"{self._name(place)} has heard {samples} samples; expected {expected} or more before it ends")
        found: dict[int, list[Tensor]] = {spare: []}
        with threads_of_a_call(self.model.device):
            if self._recurrence:
                self._recurrence.copy(place, spare)
            self._hear({spare: sound}, {spare: sound.windows.end()})
            sound.end(whole_chunk=self._recurrence is None or sound.layout != "time")
            self._encode({spare: sound}, found)
        count = timestamp_steps(samples, sound.patch_frames) - before
        embeddings, times = self._steps(found[spare], before)
        if before == 0:
            times = timestamps_ms([samples], sound.patch_frames)[0].double()  # of a short sound, within it
        return Steps(embeddings[:count], times[:count]), sound

    def _steps(self, found: Sequence[Tensor], before: int) -> Steps:
        """Steps, (k, E) each, joined, with their times, where ``before`` came before them."""
        size = self.model.timestamp_embedding_size
        embeddings = torch.cat([torch.zeros(0, size, device=self.model.device, dtype=torch.float32), *found])
        column = torch.arange(before, before + len(embeddings), device="cpu", dtype=torch.float64)
        return Steps(embeddings, HOP_MS * (self._patch_frames * column + (self._patch_frames - 1) / 2))


def _checked(samples: Any, name: str) -> Wave:
    """Samples as float32. Raises AudioError, which starts with ``name``."""
    if isinstance(samples, bytes | bytearray | memoryview):
        raise AudioError(f"{name}: are bytes; expected samples: np.frombuffer(block, np.int16), if they have 16 bits")
    try:
        ndim = samples.ndim if hasattr(samples, "ndim") else np.ndim(samples)
    except ValueError as error:  # lists of several lengths
        raise AudioError(f"{name}: gives no array ({error}); expected (n_samples,), mono at 16 kHz") from error
    if ndim != 1:
        raise AudioError(f"{name}: has {ndim} dimensions; expected (n_samples,), mono at 16 kHz: average the channels")
    try:
        wave = mixed(samples, name)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error
    if not np.abs(wave).max(initial=0.0) <= GREATEST:
        raise AudioError(f"{name}: holds NaN, infinity or {GREATEST:.0e} and more; expected finite samples in [-1, 1]")
    return wave


def _warn_once(sound: Sound, wave: Wave, name: str) -> None:
    """A line in the log when a sound becomes far too loud, and no other after it."""
    before, sound.peak = sound.peak, max(sound.peak, float(np.abs(wave).max(initial=0.0)))
    if before <= LOUD:
        warn_if_loud(sound.peak, name)


def _log_mels(waves: Sequence[Wave], dtype: torch.dtype) -> Iterable[Mel]:
    """The log-mel frames, (N, 80), of each stretch of whole windows."""
    if len(waves) < 2:
        return [log_mel_power(torch.from_numpy(wave)[None].to(dtype))[0].double().numpy() for wave in waves]
    windows = [np.lib.stride_tricks.sliding_window_view(wave, N_FFT)[::HOP] for wave in waves]
    mel = log_mel_power(torch.from_numpy(np.concatenate(windows)).to(dtype))[:, 0].double().numpy()
    return np.split(mel, np.cumsum([len(each) for each in windows])[:-1])
