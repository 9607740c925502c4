"""What is said: Google's speech embedding (Apache-2.0), from the wheel of pyopen-wakeword, run by the library in it.

The wheel has models of keywords too, under CC BY-NC-SA; they are not read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.storage import replacing
from teachers.moments import MOMENT, moments
from teachers.wheels import Wheel

WHEEL = Wheel(
    "pyopen-wakeword",
    "1.1.0",
    "pyopen_wakeword-1.1.0-py3-none-manylinux_2_35_x86_64.whl",
    "754347a59de2b3d378a0cbc404a8b41164036e74fa1c185f88056974e4bfb6b4",
    "manylinux_2_35_x86_64",
)
LIBRARY = "pyopen_wakeword/lib/libtensorflowlite_c.so"
SPECTRUM, EMBEDDING = (f"pyopen_wakeword/models/{name}.tflite" for name in ("melspectrogram", "embedding_model"))
INT16 = 32_768
WINDOW, HOP = 512, 160  # samples of a frame of its log-mel
FRAMES, STEP = 76, 8  # frames that an embedding is made of, and between one and the next: two moments
BEFORE = ((FRAMES - 1) * HOP + WINDOW - MOMENT) // 2  # samples of silence that put embedding k around moment 2 k


def load(wheels: Path) -> Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]:
    library = _library(wheels)
    spectrum, embedding = (Model(library, WHEEL.read(wheels, name)) for name in (SPECTRUM, EMBEDDING))
    return lambda waves: [_of(wave, spectrum, embedding) for wave in waves]


def _of(wave: NDArray[np.float32], spectrum: Model, embedding: Model) -> NDArray[np.float32]:
    """An embedding for every second moment, and between two of them their mean. Shape: (T,) -> (moments, 96)."""
    count = moments(wave)
    needed = (FRAMES - 1 + STEP * (count // 2)) * HOP + WINDOW
    padded = np.pad(wave, (BEFORE, max(0, needed - BEFORE - len(wave))))[:needed]
    mel = spectrum(padded[None] * np.float32(INT16)).reshape(1, -1, 32, 1) / 10 + 2
    # The network has no padding in time, and strides of 8 in all: it makes of a whole clip what it makes of its windows.
    rows = embedding(mel.astype(np.float32)).reshape(-1, 96)
    out = np.empty((2 * len(rows) - 1, 96), np.float32)
    out[::2] = rows
    out[1::2] = (rows[1:] + rows[:-1]) / 2
    return out[:count]


class Model:
    """A model of TensorFlow Lite with one input and one output, float32, of any length."""

    def __init__(self, library: ctypes.CDLL, content: bytes) -> None:
        self._library, self._content = library, content  # the model reads the bytes as long as it lives
        self._model = library.TfLiteModelCreate(content, ctypes.c_size_t(len(content)))
        self._interpreter = library.TfLiteInterpreterCreate(ctypes.c_void_p(self._model), None)
        self._shape: tuple[int, ...] = ()

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        library, interpreter = self._library, ctypes.c_void_p(self._interpreter)
        values = np.ascontiguousarray(values, np.float32)
        if values.shape != self._shape:
            shape = (ctypes.c_int32 * values.ndim)(*values.shape)
            library.TfLiteInterpreterResizeInputTensor(interpreter, 0, shape, values.ndim)
            _check(library.TfLiteInterpreterAllocateTensors(interpreter))
            self._shape = values.shape
        source = ctypes.c_void_p(library.TfLiteInterpreterGetInputTensor(interpreter, 0))
        _check(
            library.TfLiteTensorCopyFromBuffer(
                source, values.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(values.nbytes)
            )
        )
        _check(library.TfLiteInterpreterInvoke(interpreter))
        result = ctypes.c_void_p(library.TfLiteInterpreterGetOutputTensor(interpreter, 0))
        out = np.empty(library.TfLiteTensorByteSize(result) // 4, np.float32)
        _check(library.TfLiteTensorCopyToBuffer(result, out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(out.nbytes)))
        return out


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"TensorFlow Lite gave status {status}; expected 0")


def _library(wheels: Path) -> ctypes.CDLL:
    path = wheels / f"{WHEEL.sha256[:16]}-{Path(LIBRARY).name}"
    if not path.is_file():
        content = WHEEL.read(wheels, LIBRARY)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    library = ctypes.CDLL(str(path))
    for name in ("ModelCreate", "InterpreterCreate", "InterpreterGetInputTensor", "InterpreterGetOutputTensor"):
        getattr(library, f"TfLite{name}").restype = ctypes.c_void_p
    library.TfLiteTensorByteSize.restype = ctypes.c_size_t
    return library
