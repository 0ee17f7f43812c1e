"""Bytes taken from the front, and lengths as seven bits a byte."""


class ByteReader:
    """Takes bytes from the front of ``data``; every method raises ``ValueError`` if it cannot."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes."""
        taken = self._data[self._at : self._at + length]
        if len(taken) != length:
            raise ValueError(f"expected {length} more bytes, got {len(taken)}")
        self._at += length
        return taken

    def length(self) -> int:
        """Return the number that ``length_bytes`` wrote."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a length of more than nine bytes")

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)

    def expect_end(self) -> None:
        """Refuse bytes that are left over."""
        left = len(self._data) - self._at
        if left:
            raise ValueError(f"{left} bytes are left over")


def length_bytes(length: int) -> bytes:
    """Return a length, seven bits a byte, the lowest first, and 128 added to all but the last."""
    result = bytearray()
    while length > 127:
        result.append(length & 127 | 128)
        length >>= 7
    return bytes([*result, length])
