"""What may happen to the bytes of a file: each function returns them damaged, by the choices of a random generator."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

HEADER = 128  # bytes, in which half of all changes fall: most of what a reader believes stands there
EXTREMES = (0, 1, -1, 2**15 - 1, 2**16 - 1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))


def place(data: bytes, random: Random) -> int:
    """An offset in the data, in its first bytes every other time."""
    end = len(data) if random.random() < 0.5 else min(len(data), HEADER)
    return random.randrange(end) if end else 0


def flip_bits(data: bytes, random: Random, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8)) if data else 0):
        changed[place(data, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def set_bytes(data: bytes, random: Random, other: bytes) -> bytes:
    start, count = place(data, random), random.choice((1, 2, 4, 16))
    return data[:start] + random.choice((b"\0" * count, b"\xff" * count, random.randbytes(count))) + data[start + count :]


def set_field(data: bytes, random: Random, other: bytes) -> bytes:
    """A number of 1 to 8 bytes, in either order, becomes an extreme one."""
    start, size, order = place(data, random), random.choice((1, 2, 4, 4, 8)), random.choice(("little", "big"))
    value = random.choice(EXTREMES) % 256**size
    return data[:start] + value.to_bytes(size, order) + data[start + size :]


def truncate(data: bytes, random: Random, other: bytes) -> bytes:
    return data[: place(data, random)]


def insert(data: bytes, random: Random, other: bytes) -> bytes:
    start, count = place(data, random), random.choice((1, 2, 7, 64, 4096))
    return data[:start] + random.choice((b"\0" * count, random.randbytes(count))) + data[start:]


def delete(data: bytes, random: Random, other: bytes) -> bytes:
    start = place(data, random)
    return data[:start] + data[start + random.choice((1, 2, 4, 64, 1000)) :]


def repeat(data: bytes, random: Random, other: bytes) -> bytes:
    """A block stands there twice, or forty times."""
    start, count = place(data, random), random.choice((4, 16, 256, 4096))
    return data[:start] + data[start : start + count] * random.choice((2, 2, 40)) + data[start + count :]


def blank(data: bytes, random: Random, other: bytes) -> bytes:
    """A block of zeros, as after a copy from a bad disk."""
    start, count = place(data, random), random.choice((16, 512, 4096))
    return data[:start] + bytes(len(data[start : start + count])) + data[start + count :]


def splice(data: bytes, random: Random, other: bytes) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: place(data, random)] + other[place(other, random) :]


def join(data: bytes, random: Random, other: bytes) -> bytes:
    return data + random.choice((data, other, random.randbytes(1000)))


def empty(data: bytes, random: Random, other: bytes) -> bytes:
    return b""


Mutation = Callable[[bytes, Random, bytes], bytes]
MUTATIONS: dict[Mutation, int] = {  # how often each is chosen, relative to the others
    flip_bits: 20,
    set_bytes: 10,
    set_field: 20,
    truncate: 10,
    insert: 6,
    delete: 6,
    repeat: 6,
    blank: 4,
    splice: 6,
    join: 6,
    empty: 1,
}


def mutate(data: bytes, random: Random, other: bytes) -> tuple[bytes, str]:
    """The data after one to three mutations, and their names. other: a file of the same kind."""
    chosen = random.choices(list(MUTATIONS), list(MUTATIONS.values()), k=random.choice((1, 1, 2, 3)))
    for mutation in chosen:
        data = mutation(data, random, other)
    return data, "+".join(mutation.__name__ for mutation in chosen)
