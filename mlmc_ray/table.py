"""Rows of numbers, packed end to end: what a run remembers of each of its many frames."""

import copy
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11

Row = TypeVar("Row", bound=tuple[Any, ...])

_AT_ONCE = 1024  # rows
_IN_WORDS = {
    "B": "an integer from 0 to 255",
    "i": "an integer from -2^31 to 2^31 - 1",
    "q": "an integer from -2^63 to 2^63 - 1",
    "d": "a number",
}


class Table(ABC, Generic[Row]):
    """Rows in one buffer that grows, without an object for each.

    A subclass says in ``_fields`` how every number of a row is packed, in the letters of
    ``struct``, and how rows become numbers and numbers rows.

    Args:
        rows: the first ones.

    Raises:
        ValueError: a number does not fit; see ``extend``.
    """

    _fields: ClassVar[Mapping[str, str]] = {}
    _struct: ClassVar[struct.Struct]
    _dtype: ClassVar[np.dtype[np.void]]

    def __init_subclass__(cls) -> None:
        cls._struct = struct.Struct("<" + "".join(cls._fields.values()))
        cls._dtype = np.dtype([(name, f"<{code}") for name, code in cls._fields.items()])

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._packed: bytearray | bytes = bytearray()
        self.extend(rows)

    def extend(self, rows: Iterable[Row]) -> None:
        """Append rows; those of another table are copied at once.

        Raises:
            TypeError: the table is frozen.
            ValueError: a number does not fit; names it. Rows before it are appended.
        """
        if isinstance(self._packed, bytes):
            raise TypeError(
                "a frozen table takes no more rows: extend an empty one by it, and go on"
            )
        if isinstance(rows, type(self)):
            self._take(rows)
        else:
            for row in rows:
                self._append(row)

    def _take(self, other: "Self") -> None:
        self._packed += bytes(other._packed)  # a copy: a buffer cannot grow by itself

    def _append(self, row: Row) -> None:
        numbers = self._numbers(row)
        try:
            self._packed += self._struct.pack(*numbers)
        except struct.error:
            self._refuse(numbers)

    def packed(self, first: int = 0) -> bytes:
        """Return the rows from one on, end to end, for ``unpacked``."""
        return bytes(self._packed[first * self._struct.size :])

    @classmethod
    def unpacked(cls, data: bytes) -> "Self":
        """Return the rows that ``packed`` returned.

        Raises:
            ValueError: they are not whole rows, or a row is none of such a table.
        """
        if len(data) % cls._struct.size:
            raise ValueError(f"got {len(data)} bytes, and a row has {cls._struct.size}")
        table = cls()
        table._packed = bytearray(data)
        table._count()
        return table

    def _count(self) -> None:
        """Take rows into account that came packed; most tables have nothing to do.

        Raises:
            ValueError: a row is none of such a table.
        """

    def frozen(self) -> "Self":
        """Return a copy that takes no more rows."""
        frozen = copy.copy(self)
        frozen._packed = bytes(self._packed)
        return frozen

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a copy of one number of every row, shape (len,)."""
        return np.frombuffer(self._packed, self._dtype)[name].copy()

    def _numbers(self, row: Row) -> tuple[Any, ...]:
        return row

    @abstractmethod
    def _row(self, numbers: tuple[Any, ...]) -> Row:
        """Return the row that these numbers are."""

    def _refuse(self, numbers: tuple[Any, ...]) -> NoReturn:
        for (name, code), number in zip(self._fields.items(), numbers, strict=True):
            try:
                struct.pack(f"<{code}", number)
            except struct.error as error:
                expected = f"expected {_IN_WORDS[code]}"
                raise ValueError(f"{name}: got {number!r}, {expected}") from error
        raise AssertionError("all numbers fit one by one")

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows; of copies of parts, for a buffer that is looked at cannot grow."""
        start, size = 0, _AT_ONCE * self._struct.size
        while part := self._packed[start : start + size]:
            yield from map(self._row, self._struct.iter_unpack(part))
            start += len(part)

    def __getitem__(self, index: int) -> Row:
        place = range(len(self))[index]
        return self._row(self._struct.unpack_from(self._packed, place * self._struct.size))

    def __len__(self) -> int:
        return len(self._packed) // self._struct.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._packed == other._packed
