"""Values, pickles and archives that nobody wrote by accident."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

DEEP = "a nest of a hundred thousand lists"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 4, 16, 16.0, 0.5, 10**5, 10**7, 10**8, 2**31 - 1, 2**63, 10**400, 1e308),
    *(float("nan"), float("inf"), "", "no", "1", "é\u202e", "\ud800", "x" * 100_000, DEEP),
    *([], [0], [-1, -1], [4, 16], [10**9, 10**9], [2**62, 4], [4.0, 16.0], [[4, 16]], [None], {}, {"a": 1}, {"": {}}),
    *("axlstm", "ssam", "ssast", "time", "released", "sigmoid"),
)


def dumps(value: Any) -> bytes:
    """JSON with the nest in its place, which json itself could not write."""
    text = json.dumps(value, ensure_ascii=False)
    nest = "[" * 100_000 + "]" * 100_000
    return text.replace(f'"{DEEP}"', nest).encode("utf-8", "surrogatepass")


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def _call(name: str, argument: bytes) -> bytes:
    """A pickle of ``module function`` called with what the opcodes leave on the stack."""
    return b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n" + argument + b"R."


def _laughs() -> bytes:
    """Two to the power of thirty lists, in a hundred bytes."""
    value: list[Any] = []
    for _ in range(30):
        value = [value, value]
    return pickle.dumps({"model": value}, 2)


def _tensor(storage: str, size: str, offset: str = "K\x00", shape: str = "", stride: str = "") -> bytes:
    """A checkpoint of one tensor over a storage, in opcodes."""
    text = (
        "\x80\x02}X\x05\x00\x00\x00model}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        f"(X\x07\x00\x00\x00storagectorch\n{storage}\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu{size}tQ{offset}"
        f"({shape}t({stride}t\x89ccollections\nOrderedDict\n)RtRss."
    )
    return text.encode("latin-1")


RUNS = "open('ran', 'w').close()"  # in the folder of the process
LONG = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"  # 2**63 - 1
PICKLES: dict[str, Callable[[], bytes]] = {
    "a deep tuple": lambda: b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "deep lists": lambda: b"\x80\x02" + b"](" * 100_000 + b"e" * 100_000 + b".",
    "three gigabytes": lambda: _call("builtins bytearray", b"\x8a\x05\x00\x5e\xd0\xb2\x00\x85"),
    "three gigabytes of old": lambda: _call("__builtin__ bytearray", b"\x8a\x05\x00\x5e\xd0\xb2\x00\x85"),
    "code": lambda: pickle.dumps({"model": {}, "x": Call(exec, RUNS)}, 2),
    "a command": lambda: b"\x80\x02cposix\nsystem\nX\x09\x00\x00\x00touch ran\x85R.",
    "many laughs": _laughs,
    "a long name": lambda: b"\x80\x02X\xff\xff\xff\x7fabc.",
    "a long number": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "a large number": lambda: pickle.dumps({"model": 1 << 10**6}, 2),
    "no stack": lambda: b"\x80\x02tQR.",
    "no end": lambda: b"\x80\x02" + b"}" * 1000,
    "a far memo": lambda: b"\x80\x02}r\xff\xff\xff\xff.",
    "protocol 9": lambda: b"\x80\x09}.",
    "a list": lambda: pickle.dumps([], 2),
    "an empty model": lambda: pickle.dumps({"model": {}, "epoch": -1}, 2),
    "a large storage": lambda: _tensor("FloatStorage", LONG, shape="K\x01", stride="K\x01"),
    "a tensor beyond its storage": lambda: _tensor("FloatStorage", "K\x04", LONG, "K\x04", "K\x01"),
    "a tensor of all": lambda: _tensor("FloatStorage", "K\x04", shape=LONG, stride="K\x00"),
    "a tensor of negative strides": lambda: _tensor("FloatStorage", "K\x04", shape="K\x04", stride="J\xff\xff\xff\xff"),
    "a whole tensor": lambda: _tensor("FloatStorage", "K\x04", shape="K\x04", stride="K\x01"),
    "quantised": lambda: _tensor("QInt8Storage", "K\x04", shape="K\x04", stride="K\x01"),
}


def archive(data: bytes, storage: bytes = bytes(16), **others: bytes) -> bytes:
    """What torch.save writes: a pickle and its storages, of which there is one."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, content in {"data.pkl": data, "version": b"3\n", "data/0": storage, **others}.items():
            file.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return target.getvalue()


def _bomb() -> bytes:
    """Two gigabytes of zeros as the only tensor, in two megabytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        size = "J\x00\x00\x00\x20"  # 2**29 floats
        file.writestr(zipfile.ZipInfo("archive/data.pkl"), _tensor("FloatStorage", size, shape=size, stride="K\x01"))
        file.writestr(zipfile.ZipInfo("archive/version"), b"3\n")
        info = zipfile.ZipInfo("archive/data/0")
        info.compress_type = zipfile.ZIP_DEFLATED
        with file.open(info, "w", force_zip64=True) as member:
            for _ in range(128):
                member.write(bytes(1 << 24))
    return target.getvalue()


def _tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


WHOLE: dict[str, Callable[[], bytes]] = {
    "a zip bomb": _bomb,
    "an empty zip": lambda: b"PK\x05\x06" + bytes(18),
    "no pickle": lambda: archive(b""),
    "TorchScript": lambda: archive(pickle.dumps({}, 2), **{"constants.pkl": pickle.dumps((), 2)}),
    "a tar": _tar,
    "a page": lambda: b"<!DOCTYPE html><html><title>Sign in</title></html>",
    "safetensors": lambda: struct.pack("<Q", 2) + b"{}",
}
