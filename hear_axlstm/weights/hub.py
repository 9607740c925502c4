"""Weights from and to the Hugging Face Hub, whose client keeps the cache, retries, and knows when it is offline."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path

from hear_axlstm.config import EncoderConfig
from hear_axlstm.errors import WeightsError
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights.load import read_config, read_header
from hear_axlstm.weights.manifest import HubFile

WEIGHTS_FILE = "model.safetensors"
LFS_ETAG = re.compile(r"[0-9a-f]{64}")  # the Hub names a large file by its sha256, and the cache names its blob so


def fetch(file: HubFile) -> Path:
    """The local path of a file on the Hub, downloaded when the Hub client's cache does not hold it.

    Its sha256 must be the manifest's; without one, the one that the Hub states for large files. A file that fails is
    removed from the cache. Raises WeightsError with the cause and the next step.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{file.repo}@{file.revision}/{file.file} on the Hugging Face Hub"
    try:
        path = Path(hf_hub_download(file.repo, file.file, revision=file.revision, library_name="hear-axlstm"))
    except LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{where}: not in the local cache, and the Hub cannot be reached ({_cause(error)}). Connect, unset "
            "HF_HUB_OFFLINE if it is set, and repeat; or copy the file here and pass its path to load_model"
        ) from error
    except GatedRepoError as error:
        raise WeightsError(f"{where}: access must be granted; ask for it on its page and run `hf auth login`") from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise WeightsError(f"{where}: {_cause(error)}; check the names (a private one needs `hf auth login`)") from error
    except transport_error() as error:
        raise WeightsError(f"{where}: the transfer broke ({_cause(error)}); repeat it, later if need be") from error
    except OSError as error:
        raise WeightsError(
            f"{where}: {_cause(error)}. Either the transfer broke (repeat it) or the cache cannot be written (set "
            "HF_HUB_CACHE to a folder that can)"
        ) from error
    _verify(path, file, where)
    return path


def transport_error() -> type[Exception]:
    """What the Hub client's HTTP library raises; the base that HfHubHTTPError has from it, so that one, too."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def _cause(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _verify(path: Path, file: HubFile, where: str) -> None:
    blob = path.resolve()
    expected = file.sha256 or (blob.name if LFS_ETAG.fullmatch(blob.name) else None)
    if expected is None:
        return
    actual = sha256_of(blob)
    if actual != expected:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise WeightsError(
            f"{where}: sha256 is {actual[:12]}.. but {'the manifest' if file.sha256 else 'the Hub'} says {expected[:12]}..; "
            "the file was removed from the cache: repeat, and report it if it happens again"
        )


def publish(variant: str, weights: str | Path, repo: str, *, licence: str | None = None, private: bool = False) -> HubFile:
    """Push a weights file with its configuration and a model card, in one commit; the result is what pins it.

    weights: a file of ``save_weights``. repo: "owner/name", made when it does not exist. licence: SPDX identifier for the
    card. Needs `hf auth login` or HF_TOKEN. Raises WeightsError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HFValidationError

    weights = Path(weights)
    config, sha256 = read_config(weights), sha256_of(weights)
    card = model_card(variant, config, read_header(weights)["provenance"], sha256, repo, licence)
    operations = [
        CommitOperationAdd(WEIGHTS_FILE, str(weights)),
        CommitOperationAdd("config.json", (json.dumps(config.to_dict(), indent=2) + "\n").encode()),
        CommitOperationAdd("README.md", card.encode()),
    ]
    api = HfApi(library_name="hear-axlstm")
    try:
        api.create_repo(repo, exist_ok=True, private=private)
        commit = api.create_commit(repo, operations, commit_message=f"{variant} ({sha256[:12]})")
    except (HFValidationError, ValueError, OSError, transport_error()) as error:
        raise WeightsError(f"{repo}: not published ({_cause(error)}); check name and token (`hf auth login`)") from error
    return HubFile(repo, commit.oid, WEIGHTS_FILE, sha256, os.path.getsize(weights))


def model_card(
    variant: str, config: EncoderConfig, provenance: dict[str, object], sha256: str, repo: str, licence: str | None
) -> str:
    """README.md of a Hub repository."""
    licence_line = f"license: {licence.lower()}\n" if licence else ""
    rows = "\n".join(f"| {key} | {value} |" for key, value in {**config.to_dict(), **provenance}.items())
    return f"""---
library_name: hear-axlstm
pipeline_tag: feature-extraction
tags: [audio, hear, {config.family}]
{licence_line}---

# {variant}

An audio encoder for hear-axlstm (`pip install hear-axlstm`): mono 16 kHz sound in, HEAR scene and timestamp
embeddings of {config.embedding_size} floats out.

```python
import hear_axlstm

model = hear_axlstm.load_model(hear_axlstm.download("{variant}", source="{repo}"))
embedding = hear_axlstm.get_scene_embeddings(audio, model)  # audio: (n_sounds, n_samples)
```

| | |
| --- | --- |
{rows}
| sha256 of {WEIGHTS_FILE} | `{sha256}` |
"""


def manifest_lines(file: HubFile) -> str:
    """The "hub" source of a manifest entry, as JSON."""
    return json.dumps({"hub": asdict(file)}, indent=2)
