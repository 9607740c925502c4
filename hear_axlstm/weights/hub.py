"""Weights from and to the Hugging Face Hub, whose client keeps the cache, retries, and knows when it is offline."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hear_axlstm.errors import WeightsError
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights.check import read_facts
from hear_axlstm.weights.find import WEIGHTS_FILE, architecture, find_weights
from hear_axlstm.weights.folder import folder_texts
from hear_axlstm.weights.load import load_weights

LFS_ETAG = re.compile(r"[0-9a-f]{64}")  # the Hub names a large file by its sha256, and the cache names its blob so

CACHE_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")


def fetch(repo: str, revision: str, file: str, sha256: str | None = None) -> Path:
    """The local path of a file on the Hub, downloaded when the Hub client's cache does not hold it.

    sha256: what the manifest says of it; None for a user's own repository, whose large files the Hub states one of. A file
    with another hash is removed from the cache.

    Raises WeightsError with the cause and the next step.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{repo}@{revision}/{file} on the Hugging Face Hub"
    if not (os.path.isabs(constants.HF_HUB_CACHE) or any(map(os.environ.get, CACHE_VARIABLES))):  # it would be in .
        raise WeightsError(f"{where}: this user has no home folder for its cache; set HF_HOME to a folder for it")
    try:
        path = Path(hf_hub_download(repo, file, revision=revision, library_name="hear-axlstm"))
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
    _verify(path, sha256, where)
    return path


def transport_error() -> type[Exception]:
    """The base of all errors of the Hub client's HTTP library, HfHubHTTPError included."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def _cause(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _verify(path: Path, sha256: str | None, where: str) -> None:
    blob = path.resolve()
    expected = sha256 or (blob.name if LFS_ETAG.fullmatch(blob.name) else None)
    if expected is None:
        return
    actual = sha256_of(blob)
    if actual != expected:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise WeightsError(
            f"{where}: sha256 is {actual[:12]}.. but {'the manifest' if sha256 else 'the Hub'} says {expected[:12]}..; "
            "the file was removed from the cache: repeat, and report it if it happens again"
        )


def publish(variant: str, weights: str | Path, repo: str) -> dict[str, Any]:
    """Push a folder as ``pack`` writes it, weights and model card, in one commit; the result pins it in a manifest.

    weights: a file of ``save_weights`` that holds the variant, or its folder. repo: "owner/name", made when it does not
    exist. Needs `hf auth login` or HF_TOKEN. Raises WeightsError, also for weights that could not be loaded.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HFValidationError

    weights = find_weights(weights)
    load_weights(weights, expected=architecture(variant))
    sha256 = sha256_of(weights)
    texts = folder_texts(read_facts(weights), name=variant, place=repo)
    operations = [CommitOperationAdd(WEIGHTS_FILE, str(weights))]
    operations += [CommitOperationAdd(name, text.encode()) for name, text in texts.items()]
    api = HfApi(library_name="hear-axlstm")
    try:
        api.create_repo(repo, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message=f"{variant} ({sha256[:12]})")
    except (HFValidationError, ValueError, OSError, transport_error()) as error:
        raise WeightsError(f"{repo}: not published ({_cause(error)}); check name and token (`hf auth login`)") from error
    size = os.path.getsize(weights)
    return {"repo": repo, "revision": commit.oid, "file": WEIGHTS_FILE, "sha256": sha256, "bytes": size}
