"""The layers of a vector in groups, as runs of equal ones; and what drawing for them takes."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from mlmc_ray.kernels.byte_reader import ByteReader, length_bytes
from mlmc_ray.payloads.grouping import MAX_BITS, MAX_GROUP, MAX_LAYERS

_GROUP_ENTRIES, _BLOCK_ENTRIES = 4, 11  # that a group and a block are worth, by the time they take
_LAYER_STEPS, _TURN_STEPS = 1 << 17, 2


class Run(NamedTuple):
    """Equal layers: how many, rows and columns of each, and the entries of their groups."""

    number: int
    rows: int
    columns: int
    group_size: int


class Asked(NamedTuple):
    """What reading a payload takes, by its first bytes.

    Attributes:
        entries: that are made, as memory or time.
        steps: of drawing codebooks, turns and layers, in multiplications of numbers.
    """

    entries: int
    steps: int


def pack_runs(shapes: Sequence[tuple[int, int]], group_sizes: Sequence[int]) -> bytes:
    """Return runs of equal layers: how many, rows, columns, and log2 of the group size."""
    pairs = zip(shapes, group_sizes, strict=True)
    runs = [(len(list(run)), *shape, group) for (shape, group), run in groupby(pairs)]
    return b"".join(
        length_bytes(number)
        + length_bytes(rows)
        + length_bytes(columns)
        + bytes([group.bit_length() - 1])
        for number, rows, columns, group in runs
    )


def read_runs(data: bytes, dim: int) -> list[Run]:
    """Return the runs of ``pack_runs`` of layers with ``dim`` entries in all.

    Raises:
        ValueError: the bytes are not such runs, or there are more than ``MAX_LAYERS`` layers.
    """
    reader, left, layers = ByteReader(data), dim, MAX_LAYERS
    runs: list[Run] = []
    while left > 0:
        number, rows, columns = reader.length(), reader.length(), reader.length()
        size, exponent = rows * columns, reader.take(1)[0]
        if not 0 < number <= layers:
            raise ValueError(f"{number} layers where at most {MAX_LAYERS} are allowed in all")
        if not 0 < number * size <= left:
            raise ValueError(
                f"{number} layers of {rows} by {columns} entries where {left} entries are left"
            )
        if exponent >= MAX_GROUP.bit_length():
            raise ValueError(f"expected groups of 2^7 entries at most, got 2^{exponent}")
        runs.append(Run(number, rows, columns, 1 << exponent))
        left -= number * size
        layers -= number
    reader.expect_end()
    return runs


def asked_of_groups(dim: int, form: Sequence[object], layers: bytes) -> Asked:
    """Return what groups with shared thresholds ask for, of fields that are hostile.

    What is malformed asks for nothing: it is refused where it is read, before anything is drawn.
    """
    match form:
        case [int(bits), _, int(block), _, int(workers)] if (
            dim > 0 and 0 < bits <= MAX_BITS and block > 0
        ):
            pass
        case _:
            return Asked(0, 0)
    try:
        runs = read_runs(layers, dim)
    except ValueError:
        return Asked(0, 0)
    entries = dim
    for number, rows, columns, size in runs:
        groups = -(-rows * columns // size)
        blocks = -(-groups // block) if size == 1 else groups
        entries += number * (_GROUP_ENTRIES * groups + _BLOCK_ENTRIES * blocks)
    steps = sum(run.number for run in runs) * (_LAYER_STEPS + _TURN_STEPS * max(0, workers))
    for n in {run.group_size for run in runs} - {1}:
        steps += (1 << (bits - 1)) * n**2 + 2 * n**3
    return Asked(entries, steps)
