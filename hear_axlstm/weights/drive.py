"""Weights from the authors' Google Drive folders: fetch with gdown, convert, keep."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.errors import WeightsError
from hear_axlstm.storage import replacing, sha256_of
from hear_axlstm.weights.manifest import Entry
from hear_axlstm.weights.released import convert_checkpoint


def convert_flags(entry: Entry) -> str:
    """The options of `hear-axlstm convert` that the tensors do not tell."""
    config = entry.architecture
    return f" {'--flip' if config.flip else '--no-flip'}" if isinstance(config, AxLSTMConfig) else ""


def steps_by_hand(variant: str, entry: Entry, target: Path) -> str:
    """What a user does to get the authors' checkpoint, as numbered lines."""
    if entry.drive is None:
        return "  Its authors have published no weights that we know of: convert or pretrain your own, and pass their path."
    found = entry.drive.path or "checkpoint-99.pth of this model (where in the folder is not known, nor whether it is there)"
    return (
        f"  1. open {entry.drive.url}\n"
        f"  2. download {found}\n"
        f"  3. hear-axlstm convert checkpoint-99.pth {target}{convert_flags(entry)}\n"
        "and repeat: it is then found by its name. "
        + (f"`hear-axlstm download {variant} --from-drive` does these steps." if entry.drive.path else "")
    )


def fetch_from_drive(variant: str, entry: Entry, target: Path) -> None:
    """Download the variant's released checkpoint, check it, convert it to ``target``.

    Needs the [drive] extra. Raises WeightsError.
    """
    if entry.drive is None or entry.drive.path is None:
        raise WeightsError(
            f"{variant}: where its checkpoint lies on Google Drive is not known.\n{steps_by_hand(variant, entry, target)}"
        )
    try:
        import gdown
    except ImportError as error:
        raise WeightsError("--from-drive needs gdown: pip install 'hear-axlstm[drive]'") from error
    wanted = entry.drive.path
    with tempfile.TemporaryDirectory(prefix="hear-axlstm-") as folder:
        checkpoint = Path(folder) / Path(wanted).name
        try:
            files: list[Any] = gdown.download_folder(id=entry.drive.folder, skip_download=True, quiet=True) or []
            ids = [file.id for file in files if Path(file.path).as_posix().endswith(wanted)]
            if len(ids) != 1:
                raise WeightsError(f"{len(ids)} files called {wanted} among {len(files)} in the folder")
            gdown.download(id=ids[0], output=str(checkpoint), quiet=True)
        except Exception as error:
            raise WeightsError(
                f"{variant}: Google Drive did not give the checkpoint ({error}). By hand:\n"
                f"{steps_by_hand(variant, entry, target)}"
            ) from error
        if entry.drive.sha256 is not None and (actual := sha256_of(checkpoint)) != entry.drive.sha256:
            raise WeightsError(f"{variant}: the checkpoint's sha256 is {actual}, but the manifest says {entry.drive.sha256}")
        config = entry.architecture
        flip = config.flip if isinstance(config, AxLSTMConfig) else None
        with replacing(target) as staged:
            if (converted := convert_checkpoint(checkpoint, staged, flip=flip)) != config:
                raise WeightsError(f"{variant}: it holds {converted}, but the variant is {config}; not kept")
