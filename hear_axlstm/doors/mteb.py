"""Our encoders as models of MTEB and its part for audio, MAEB: ``mteb.evaluate(model("axlstm-tiny-open"), tasks)``.

MTEB hands over decoded sounds at the rates that its data sets have; they are resampled here, as ``embed`` does it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hear_axlstm.config import Layout
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, WeightsError
from hear_axlstm.files import embed
from hear_axlstm.files.outcomes import Array
from hear_axlstm.hear import load_model
from hear_axlstm.progress import first_of, progress_bar
from hear_axlstm.weights.find import architecture, find_weights, manifest_entry, read_manifest, variant_of
from hear_axlstm.weights.load import read_header
from hear_axlstm.weights.names import DIGITS

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
except (ImportError, OSError) as error:  # OSError: torchaudio beside another build of torch
    raise ImportError(f"mteb cannot be imported ({error}): pip install 'hear-axlstm[mteb]'") from error

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

ORGANISATION = "hear-axlstm"  # MTEB's names have one
AUDIOSET = {"AudioSet", "AudioSetMini"}  # what MTEB calls tasks of the clips that the papers' models heard
AUDIOSET_PAGE = "https://research.google.com/audioset/"
BYTES = 4  # of a parameter, float32
SHOWN = 3  # failures in an error


def model(name: str | os.PathLike[str] = "", *, device: str = "cpu", layout: Layout | None = None) -> HearEncoder:
    """A model for ``mteb.evaluate``.

    name: a variant, a file, a folder or a repository, as ``load_model`` takes it; empty: the bundled default.
    device, layout: as ``load_model`` takes them.

    Raises WeightsError where there are no such weights, ConfigError on a bad option.
    """
    return HearEncoder(weights=name, device=device, layout=layout)


def meta(name: str | os.PathLike[str] = "", *, layout: Layout | None = None) -> ModelMeta:
    """What MTEB is told about a model, by the manifest for a variant. MTEB can load the model by it, too.

    name, layout: as ``model`` takes them; results of another layout than the weights' own are kept apart.
    revision: the fingerprint of the weights' file; None of a variant whose weights are not here.

    Raises WeightsError where there are no such weights, and ``name`` is no variant either.
    """
    variant = variant_of(name or read_manifest()["default"])
    facts = manifest_entry(variant) if variant else {}
    try:
        header = read_header(find_weights(name))
        config, revision = header["config"], header["sha256"]
    except WeightsError:
        if variant is None:
            raise
        config, revision = architecture(variant), None
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in Encoder(config).parameters())
    heard_audioset = facts.get("training_data") == "AudioSet"
    return ModelMeta(
        loader=HearEncoder,
        loader_kwargs={"weights": os.fspath(name)},
        name=f"{ORGANISATION}/{variant or f'{config.family}-{revision[:DIGITS]}'}",
        revision=revision,
        release_date=None,
        languages=[],
        n_parameters=parameters,
        memory_usage_mb=parameters * BYTES / 2**20,
        max_tokens=None,
        embed_dim=config.embedding_size,
        license=(facts.get("licence") or "not specified").lower(),
        open_weights=True if variant else None,
        public_training_code=None,
        public_training_data=AUDIOSET_PAGE if heard_audioset else True if variant else None,
        framework=["PyTorch", "safetensors"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=AUDIOSET if heard_audioset else set() if variant else None,
        modalities=["audio"],
        experiment_kwargs={"layout": layout} if layout else None,
    )


class HearEncoder(AbsEncoder):  # type: ignore[misc]
    """An encoder as MTEB calls it. ``model`` makes one of a name; MTEB itself makes one of what ``meta`` says.

    weights, device, layout: as ``load_model`` takes them. The other arguments are MTEB's.
    """

    def __init__(
        self,
        model_name: str = "",
        revision: str | None = None,
        *,
        weights: str | os.PathLike[str] = "",
        device: str | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.mteb_model_meta = meta(weights, layout=layout)
        self.model = load_model(weights, layout=layout, device=device or "cpu")

    def encode(self, inputs: DataLoader[Any], *, show_progress_bar: bool = True, **_: Any) -> Array:
        """Scene embeddings of the sounds that a loader gives, one for each, in its order. Short ones are padded with zeros.

        Shape: -> (N, model's scene_embedding_size), float32. Raises AudioError where a sound cannot be embedded.
        """
        inputs.collate_fn = sounds_of
        rows: list[Array] = []
        for sounds in progress_bar(inputs, shown=None if show_progress_bar else False, desc="embedding"):
            found = embed(sounds, self.model, pad_short=True, progress=False)
            if found.failures:
                named = [f"sound {int(name) + sum(map(len, rows))}: {why}" for name, why in found.failures.items()]
                raise AudioError(f"MTEB needs an embedding of every sound, and there is none of {first_of(named, SHOWN)}")
            rows.append(found.matrix)
        return np.concatenate(rows) if rows else np.zeros((0, self.model.scene_embedding_size), np.float32)


def sounds_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, float]]:
    """The sounds of a data set's rows, decoded, at their own rates. Raises AudioError where a row has none."""
    if not all("audio" in row for row in rows):
        raise AudioError(f"a row has {', '.join(rows[0])}; expected audio: these models take sound alone")
    return [(row["audio"]["array"], row["audio"]["sampling_rate"]) for row in rows]
