"""The tensors of a checkpoint that others pickled, read in a process of bounded memory and time that runs nothing in it."""

from __future__ import annotations

import io
import logging
import pickle
import re
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from hear_axlstm.errors import WeightsError
from hear_axlstm.parallel import Worker, WorkerDiedError
from hear_axlstm.weights.check import kinds_of, require_floats, shown

MEMORY, MEMORY_TIMES = 2 << 30, 5  # bytes that reading may take: the first, and so many times the file's
SECONDS, BYTES_A_SECOND = 30, 4 << 20  # of a processor
LARGEST = 4 << 30  # bytes of a file; the papers' largest encoder has 344 MB, and three times that with an optimiser

logger = logging.getLogger(__name__)


class Inert:
    """Stands in for a foreign class of a checkpoint: takes the state that was stored, and does nothing."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


# The authors' checkpoints carry their training arguments, made of these; nothing else foreign is let in.
FOREIGN_CLASSES = (
    "argparse.Namespace",
    "ml_collections.config_dict.config_dict.ConfigDict",
    "ml_collections.config_dict.config_dict.FrozenConfigDict",
    "ml_collections.config_dict.config_dict.FieldReference",
)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], int | None]:
    """The model's tensors and the epoch of a released checkpoint.

    torch's restricted unpickler reads it in another process: known tensor constructors, plain containers, and inert
    stand-ins for the foreign classes above. The checksums of its zip are compared. The tensors come back as safetensors.

    Raises WeightsError on anything else, before it could run, and when reading takes more memory or time than a checkpoint
    of this size needs.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected a checkpoint such as checkpoint-99.pth")
    if (size := path.stat().st_size) > LARGEST:
        raise WeightsError(f"{path} has {size:,} bytes; expected a released checkpoint, which has {LARGEST:,} at most")
    worker = Worker()
    try:
        tensors, epoch, has_checksums = worker.call(
            extract, str(path), MEMORY + MEMORY_TIMES * size, SECONDS + size // BYTES_A_SECOND
        )
    except WorkerDiedError as error:
        raise WeightsError(
            f"{path}: refused, the process that read it ended with {error.status}: it is damaged, or asks for more "
            "memory or time than a checkpoint of its size does. Get the file from its authors again"
        ) from error
    finally:
        worker.close()
    if not has_checksums:
        logger.warning("%s is in torch's old format, without checksums: compare its sha256 with its authors'", path)
    return safetensors.torch.load(tensors), epoch


def extract(path: str, memory: int, seconds: int) -> tuple[bytes, int | None, bool]:
    """The tensors of a checkpoint as safetensors, its epoch, and whether checksums were compared: the other process's part.

    memory, seconds: what reading may take, in bytes and of a processor. Raises WeightsError.
    """
    _bound(memory, seconds)
    try:
        records = _records(path)
        with torch.serialization.safe_globals([(Inert, name) for name in FOREIGN_CLASSES]):
            content = torch.load(records or path, map_location="cpu", weights_only=True)
        tensors = content.get("model") if isinstance(content, Mapping) else None
        if not isinstance(tensors, dict) or not all(
            isinstance(n, str) and isinstance(t, Tensor) for n, t in tensors.items()
        ):
            raise WeightsError(
                f"{path}: no tensors under the key 'model'; expected a released AxLSTM, SSAM or SSAST checkpoint"
            )
        require_floats(kinds_of(tensors), path)
        if sum(tensor.nbytes for tensor in tensors.values()) > Path(path).stat().st_size:
            raise WeightsError(f"{path}: refused, its tensors are larger than the file, as in no released checkpoint")
        plain = {name: tensor.detach().resolve_neg().contiguous().clone() for name, tensor in tensors.items()}
        epoch = content.get("epoch")
        return safetensors.torch.save(plain), epoch if type(epoch) is int and abs(epoch) < 1 << 31 else None, bool(records)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        # torch's message also advises to switch the protection off; only its finding is passed on.
        if operation := re.search(r"Unsupported operand (\d+)", str(error)):
            raise WeightsError(
                f"{path} is no torch checkpoint, or has a program in it (operation {operation[1]} of pickle); "
                "nothing in it was run. Download it again"
            ) from None
        finding = re.search(r"[Uu]nsupported [^\n]*?(?=\.? was not|\. *(?:\n|$)|\n|$)", str(error))
        raise WeightsError(
            f"{path}: refused, it asks for more than tensors and plain values"
            f"{f' ({finding.group():.200})' if finding else ''}; nothing in it was run. Get the file from its authors again"
        ) from None
    except Exception as error:  # whatever a damaged file makes of torch
        cause = str(error).partition("\n")[0]
        if isinstance(error, MemoryError) or "allocate memory" in cause:
            raise WeightsError(f"{path}: refused, it asks for more memory than a checkpoint of its size does") from None
        cause = type(error).__name__ if not cause or "weights_only" in cause else cause
        raise WeightsError(f"{path}: not a whole torch checkpoint ({cause:.200}); download it again") from None


def _records(path: str) -> io.BytesIO | None:
    """The records of a checkpoint's zip whose checksums hold, in a zip that has nothing else; None of torch's old format."""
    if tarfile.is_tarfile(path):
        raise WeightsError(f"{path} is a tar archive, as torch wrote until 2017; get a newer file from its authors")
    with open(path, "rb") as file:
        if not file.read(4).startswith(b"PK") and not zipfile.is_zipfile(path):
            return None
    whole = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(whole, "w") as copy:
        entries = archive.infolist()
        names = {entry.filename for entry in entries}
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            raise WeightsError(f"{path} is a TorchScript archive, which holds a program; expected a checkpoint of tensors")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise WeightsError(
                    f"{path}: refused, {shown(entry.filename)} in it is compressed, as in no torch checkpoint"
                )
        if min((entry.header_offset for entry in entries), default=0) > 0:
            raise WeightsError(f"{path}: refused, something stands before its zip; get the file from its authors again")
        if len(names) < len(entries) or sum(entry.file_size for entry in entries) > Path(path).stat().st_size:
            raise WeightsError(f"{path}: refused, records in its zip overlap, as in no torch checkpoint")
        for entry in entries:
            copy.writestr(entry.filename, archive.read(entry))  # which compares the checksum
    whole.seek(0)
    return whole


def _bound(memory: int, seconds: int) -> None:
    """Limit what this process may take from now on, where the system can."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = int(usage.ru_utime + usage.ru_stime)
        limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: used + seconds, resource.RLIMIT_DATA: memory}
        for kind, most in limits.items():
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
