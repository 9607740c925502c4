"""sentence-transformers: ``SentenceTransformer`` opens our folders, and ``model`` any weights by their name.

Importing this module tells both libraries of our classes. docs/doors/sentence_transformers.md shows their use.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import Any

from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights.folder import pack

try:
    import hear_axlstm.doors.transformers  # noqa: F401, I001 - first: SentenceTransformer finds our classes by it
    from sentence_transformers import SentenceTransformer
except ImportError as error:
    why = error.__cause__ or error  # the tool's own words
    raise ImportError(
        f"sentence-transformers is missing or too old ({why}); pip install 'hear-axlstm[sentence-transformers]'"
    ) from error


def model(weights: str | os.PathLike[str] | Encoder | Embedder = "", **options: Any) -> SentenceTransformer:
    """A SentenceTransformer of any weights, without a folder that ``hear_axlstm.pack`` wrote.

    weights: what ``hear_axlstm.load_model`` takes, by default the bundled weights, or a model or an encoder in memory.
    options: of SentenceTransformer, such as device and truncate_dim.

    Its ``encode`` gives scene embeddings, (sounds, D) in float32, of paths, samples at 16 kHz, and {"array",
    "sampling_rate"} at any rate, which is one for all sounds of a call. Raises WeightsError and ConfigError as
    ``load_model`` does; ``encode`` raises AudioError on a sound that cannot be embedded.
    """
    with TemporaryDirectory() as folder:  # SentenceTransformer reads nothing else; it is gone when all is in memory
        pack(weights, folder)
        loaded = SentenceTransformer(folder, **options)
    name = "hear-axlstm" if isinstance(weights, Encoder | Embedder) else os.fspath(weights) or "hear-axlstm"
    loaded[0].model.name_or_path = loaded[0].model.config.name_or_path = name
    return loaded
