"""What weights are called in results: the same for the same weights, wherever they and the results are kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from hear_axlstm.config import VARIANTS
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights.find import read_manifest
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.save import fingerprint
from hear_axlstm.weights.sources import weights_of

DIGITS = 6  # of a fingerprint in a name

State = list[tuple[int, int]]  # what changes when a tensor of an encoder is replaced or written to
_names: WeakKeyDictionary[Encoder, tuple[State, str]] = WeakKeyDictionary()


def weights_name(encoder: Encoder) -> str:
    """What an encoder's weights are called; it is found out once, and anew when they have changed."""
    state = [(id(t), 0 if t.is_inference() else t._version) for t in (*encoder.parameters(), *encoder.buffers())]
    if encoder not in _names or _names[encoder][0] != state:
        _names[encoder] = state, name_of(fingerprint(encoder), encoder.config.to_dict())
    return _names[encoder][1]


def name_of(found: str, architecture: Mapping[str, Any]) -> str:
    """What the weights of a fingerprint are called: bundled ones by their name.

    Others are called by the variant of their architecture and the first digits of the fingerprint.
    """
    if found in _bundled():
        return _bundled()[found]
    variants = (variant for variant, config in VARIANTS.items() if config.to_dict() == architecture)
    return f"{next(variants, architecture['family'])} {found[:DIGITS]}"


@lru_cache(maxsize=1)
def _bundled() -> dict[str, str]:
    """The names of the weights that come with the package, by fingerprint."""
    variants = [variant for variant, entry in read_manifest()["variants"].items() if entry["sources"]["bundled"]]
    return {fingerprint(load_weights(weights_of(variant))[0]): variant for variant in variants}
