"""What weights are called in results: the same for the same weights, wherever they and the results are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from hear_axlstm.config import VARIANTS
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights.find import read_manifest, variant_of
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.save import fingerprint
from hear_axlstm.weights.sources import weights_of

DIGITS = 6  # of a fingerprint in a name

State = list[tuple[int, int]]  # what changes when a tensor of an encoder is replaced or written to
_names: WeakKeyDictionary[Encoder, tuple[State, str]] = WeakKeyDictionary()


def weights_name(encoder: Encoder, given: str | os.PathLike[str] | None = None) -> str:
    """What an encoder's weights are called; it is found out once, and anew when they have changed.

    given: what they were loaded by, such as a variant's name, a path, or "" for the default; None where that is not known.
    """
    state = [(id(t), 0 if t.is_inference() else t._version) for t in (*encoder.parameters(), *encoder.buffers())]
    if given is None and encoder in _names and _names[encoder][0] == state:
        return _names[encoder][1]
    called = "" if given is None else os.fspath(given) or str(read_manifest()["default"])
    variant = variant_of(called) if called else None
    name = variant or name_of(fingerprint(encoder), encoder.config.to_dict(), called)
    _names[encoder] = state, name
    return name


def name_of(found: str, architecture: Mapping[str, Any], given: str = "") -> str:
    """What the weights of a fingerprint are called: bundled ones by their variant, others as they were given.

    Where nothing was given, it is the variant of their architecture and the first digits of the fingerprint.
    """
    if name := _bundled().get(found, given):
        return name
    variants = (variant for variant, config in VARIANTS.items() if config.to_dict() == architecture)
    return f"{next(variants, architecture['family'])} {found[:DIGITS]}…"


@lru_cache(maxsize=1)
def _bundled() -> dict[str, str]:
    """The variants whose weights come with the package, by fingerprint."""
    variants = [variant for variant, entry in read_manifest()["variants"].items() if entry["sources"]["bundled"]]
    return {fingerprint(load_weights(weights_of(variant))[0]): variant for variant in variants}
