"""A million names in two arrays, which are on disk what they are in memory, so that nothing is read before it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.errors import OutputError
from hear_axlstm.progress import first_of, printable, several

SHOWN = 3


class Texts(Sequence[str]):
    """A list of short texts, such as names and paths, of any characters that Python keeps in the names of files.

    data: their bytes, one after the other, (bytes,), uint8. ends: where each ends in them, (N,), int64.

    >>> list(Texts.of(["a.wav", ""]) + Texts.of(["b.wav"]))
    ['a.wav', '', 'b.wav']
    """

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """The same texts as arrays; those that are arrays already stay as they are."""
        if isinstance(texts, cls):
            return texts
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def is_whole(self) -> bool:
        """Whether the ends fit the bytes and each other, as in files that nobody has cut or changed."""
        if not len(self.ends):
            return len(self.data) == 0
        return len(self.data) == int(self.ends[-1]) and self.ends[0] >= 0 and bool((self.ends[1:] >= self.ends[:-1]).all())

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: Any) -> str | Texts:
        """The text at a place; for a slice without steps, the texts there."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                return Texts.of([self[at] for at in range(start, stop, step)])
            begin = int(self.ends[start - 1]) if start else 0
            ends = self.ends[start : max(start, stop)]
            return Texts(self.data[begin : int(ends[-1]) if len(ends) else begin], ends - begin)
        at = range(len(self))[place]  # raises IndexError
        begin = int(self.ends[at - 1]) if at else 0
        return _decoded(self.data[begin : int(self.ends[at])].tobytes())

    def __iter__(self) -> Iterator[str]:
        data, begin = self.data.tobytes(), 0
        for end in self.ends.tolist():
            yield _decoded(data[begin:end])
            begin = end

    def __add__(self, other: Texts) -> Texts:
        return Texts(np.concatenate([self.data, other.data]), np.concatenate([self.ends, other.ends + len(self.data)]))

    def __repr__(self) -> str:
        return f"{several(len(self), 'text')}: {first_of(list(map(printable, self[: SHOWN + 1])), SHOWN)}"


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise OutputError(f"a name of the index is damaged ({error}); make the index again") from error
