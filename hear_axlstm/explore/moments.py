"""One sound -> its waveform, its log-mel, and how similar each of its moments is to every other, as a picture or a page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hear_axlstm.audio import Wave, to_wave
from hear_axlstm.audio.addresses import short_name
from hear_axlstm.centring import Array
from hear_axlstm.config import HOP, SAMPLE_RATE, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.explore.moments_page import to_page
from hear_axlstm.explore.page import writable
from hear_axlstm.explore.spectrogram import draw_moments, fewer
from hear_axlstm.files.run import loaded
from hear_axlstm.frontend import log_mel
from hear_axlstm.hear import get_timestamp_embeddings
from hear_axlstm.progress import printable, several
from hear_axlstm.storage import replacing, write_text
from hear_axlstm.weights.names import weights_name

MOST = 1_000  # moments in a picture: 40 s, and 4 MB of cosines
SUFFIXES = (".png", ".svg", ".pdf", ".html", ".htm")


@dataclass(frozen=True, eq=False, repr=False)
class Moments:
    """One sound as the encoder sees it: T moments, and how similar they are.

    wave: (n,), float32, mono at 16 kHz. log_mel: (N, 80), standardised over the clip, a frame every 10 ms. times: (T,), the
    centres of the moments in ms. embeddings: (T, E), their timestamp embeddings. similarity: (T, T), from -1 to 1, the
    cosine of every moment with every other. step: how many seconds a moment covers, 0.04 where none were averaged. name:
    what the sound is called. weights: what the model's are called.
    """

    wave: Wave
    log_mel: Array
    times: NDArray[np.float64]
    embeddings: Array
    similarity: Array
    step: float
    name: str
    weights: str

    @property
    def seconds(self) -> float:
        """How long the sound is."""
        return len(self.wave) / SAMPLE_RATE

    @property
    def edges(self) -> NDArray[np.float64]:
        """Where moments begin and end, in seconds: (T + 1,). The sound may go on for 20 ms after the last one."""
        return np.arange(len(self.times) + 1, dtype=np.float64) * self.step - HOP / SAMPLE_RATE / 2

    def to_html(self) -> str:
        """The sound as one HTML page that needs nothing else, in one text. Raises ConfigError without jinja2."""
        return to_page(self)

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Write a picture, .png, .svg or .pdf, or a page that plays the sound, .html.

        Raises ConfigError on another suffix, and without matplotlib (a picture) or jinja2 (a page); OSError where the file
        cannot be written.
        """
        target = drawable(path)
        if target.suffix.lower().startswith(".htm"):
            write_text(target, self.to_html())
            return
        with replacing(target) as temporary:
            draw_moments(self, temporary, target.suffix[1:].lower())

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        each = f"every {1000 * self.step:.0f} ms"
        return f"Moments: {several(len(self), 'moment')} of {printable(self.name)}, {each}\n  weights: {self.weights}"


def moments(
    sound: Any,
    model: Embedder | str | os.PathLike[str] = "",
    *,
    sample_rate: float | None = None,
    device: str | torch.device | None = None,
) -> Moments:
    """One sound's waveform, log-mel and timestamp embeddings, and the similarity of every moment with every other.

    Similarity is the cosine of embeddings from which their mean over the clip is subtracted: raw ones share so much that all
    cosines are alike. So 0 is nothing special in common, and a moment is only ever compared with others of its own clip: a
    cosine of 0.5 in one clip and in another need not mean the same. What depends on a moment's place in its chunk of 2 s
    is left in. It shows as a faint grid every 2 s in pauses and in sounds that hardly change, such as hiss or a crowd. To
    subtract the mean of each place made worse pictures: a grid of the opposite sign, without what repeats every 2 s in the
    sound itself.

    sound: one, as ``embed`` and ``hear_axlstm.audio.to_wave`` take it: a path, an address, samples at ``sample_rate`` Hz, a
    pair (samples, rate), bytes and so on. model: what ``load_model`` returns, or takes; the bundled default when left out.
    device: where ``load_model`` puts the model, "cpu" when left out.

    Of more than 1,000 moments, 40 s, neighbours are averaged. All of the sound is in memory, with its embeddings: some
    1.2 GB an hour with tiny weights.

    Raises AudioError, which names the sound, when it cannot be embedded; ConfigError on bad options; WeightsError.
    """
    embedder = loaded(model, device)
    place = os.fsdecode(sound) if isinstance(sound, str | os.PathLike) else "sound"
    wave = to_wave(sound, sample_rate, place)
    clip = torch.from_numpy(wave)[None]
    with torch.inference_mode():
        steps, times = (one[0].cpu().numpy() for one in get_timestamp_embeddings(clip, embedder))
        mel = log_mel(clip)[0].numpy()
    each = -(-len(times) // MOST)
    embeddings = fewer(steps, MOST)
    step = each * embedder.encoder.config.patch[0] * HOP / SAMPLE_RATE
    return Moments(
        wave, mel, fewer(times.astype(np.float64), MOST), embeddings, similarity(embeddings), step, short_name(sound),
        weights_name(embedder.encoder),
    )  # fmt: skip


def similarity(embeddings: Array) -> Array:
    """Cosines of rows without their mean, 1 on the diagonal, 0 where a row is nothing but the mean. (T, E) -> (T, T)."""
    own = embeddings - embeddings.mean(0, dtype=np.float64).astype(np.float32)
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    found: Array = np.clip(own @ own.T, -1, 1)
    np.fill_diagonal(found, 1.0)
    return found


def drawable(path: str | os.PathLike[str]) -> Path:
    """The path of a picture or a page. Raises ConfigError where none of the kind can be written."""
    target = Path(os.path.expanduser(path))
    expected = f"expected a picture, .png, .svg or .pdf, or a page, .html: call it {target.stem or 'sound'}.png"
    require(target.suffix.lower() in SUFFIXES, f"{target} is neither by its name; {expected}")
    return writable(target)
