"""Seeded changes to bytes, and to values of lists and mappings.

Everything is drawn from a ``random.Random``, so that the same seed makes the same inputs.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import Any

MOST_BYTES = 1 << 16  # of an input; what has grown beyond is cut
BYTES = (
    *(0x00, 0x01, 0x7F, 0x80, 0xFF, 0x0A, 0x20, 0x22, 0x2C, 0x3A, 0x5B, 0x7B),
    *(0x90, 0x91, 0x93, 0x94, 0x9F, 0x81, 0x8F, 0xA0, 0xBF, 0xE0),  # of msgpack: short lengths
    *(0xC0, 0xC1, 0xC2, 0xC4, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCC, 0xCF, 0xD0, 0xD3, 0xD4),
    *(0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF),
)
"""Such as begin something."""
_WORDS = tuple(
    number.to_bytes(size, order)
    for size in (4, 8)
    for order in ("little", "big")
    for number in (
        *(0, 1, (1 << 8 * size) - 1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1),
        *(1 << 30, 1 << 16, (1 << 31) - 1),
    )
)
_NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, -128, 4095, 4096, 4097, 65535, 65536),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63)),
    *(0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 1e-300, 3.4e38, 1e39, 1.7e308, -1e300),
    *(math.nan, math.inf, -math.inf),
)
PLAIN: tuple[Any, ...] = (
    *_NUMBERS,
    *(None, True, False, "", "x", "\x00", "kind", "9" * 40, [], [[]], {}, {"x": 1}, [0, 1], [None]),
)
"""Values for the place of another, as JSON and YAML know them."""
PACKED: tuple[Any, ...] = (
    *PLAIN,
    *((1 << 64) - 1, b"", b"\x00", b"\xff" * 8, bytes(64), [2, {}, {}], [0, 1], [[[[0, 1]]]]),
)
"""Values that msgpack knows besides."""


def changed_bytes(data: bytes, other: bytes, random: Random) -> bytes:
    """Return bytes with one to a few changes; parts of ``other`` may come in."""
    result = bytearray(data)
    while True:
        _BYTE_CHANGES[int(random.random() * len(_BYTE_CHANGES))](result, other, random)
        if random.random() < 0.6:
            return bytes(result[:MOST_BYTES])


def _flip(data: bytearray, other: bytes, random: Random) -> None:
    if data:
        data[int(random.random() * len(data))] ^= 1 << int(random.random() * 8)


def _set(data: bytearray, other: bytes, random: Random) -> None:
    if data:
        data[int(random.random() * len(data))] = random.choice(BYTES)


def _set_any(data: bytearray, other: bytes, random: Random) -> None:
    if data:
        data[int(random.random() * len(data))] = int(random.random() * 256)


def _cut(data: bytearray, other: bytes, random: Random) -> None:
    del data[int(random.random() * (len(data) + 1)) :]


def _insert(data: bytearray, other: bytes, random: Random) -> None:
    place = int(random.random() * (len(data) + 1))
    data[place:place] = random.choice(BYTES).to_bytes(1, "big") * random.choice((1, 1, 2, 8, 700))


def _delete(data: bytearray, other: bytes, random: Random) -> None:
    start, end = _slice(data, random)
    del data[start:end]


def _repeat(data: bytearray, other: bytes, random: Random) -> None:
    start, end = _slice(data, random)
    data[end:end] = data[start:end] * random.choice((1, 1, 2, 8))


def _splice(data: bytearray, other: bytes, random: Random) -> None:
    start, end = _slice(other, random)
    place = int(random.random() * (len(data) + 1))
    if random.random() < 0.5:
        data[place:place] = other[start:end]
    else:
        data[place:] = other[start:]


def _overwrite(data: bytearray, other: bytes, random: Random) -> None:
    word = random.choice(_WORDS)
    place = int(random.random() * (len(data) + 1))
    data[place : place + len(word)] = word


def _slice(data: bytes | bytearray, random: Random) -> tuple[int, int]:
    start = int(random.random() * (len(data) + 1))
    longest = len(data) - start
    return start, start + int(random.random() ** 3 * (longest + 1))


_BYTE_CHANGES = (_flip, _set, _set_any, _cut, _insert, _delete, _repeat, _splice, _overwrite)


def changed_value(value: Any, odd: Sequence[Any], random: Random) -> Any:
    """Return a value with one change somewhere in it; the value itself stays as it is.

    Args:
        value: plain: lists, mappings, numbers, strings, bytes ...
        odd: values that may take the place of another.
        random: draws the place, and what happens there.
    """
    if isinstance(value, list | dict) and value and random.random() < 0.85:
        if isinstance(value, list):
            index = int(random.random() * len(value))
            return [*value[:index], changed_value(value[index], odd, random), *value[index + 1 :]]
        key = random.choice(list(value))
        return {**value, key: changed_value(value[key], odd, random)}
    if random.random() < 0.5:
        return random.choice(odd)
    if isinstance(value, bytes):
        return changed_bytes(value, value, random)
    if isinstance(value, str):
        text = changed_bytes(value.encode(errors="surrogatepass"), b"", random)
        return text.decode(errors="replace")
    if isinstance(value, bool | None):
        return not value
    if isinstance(value, int):
        change = random.choice((1, -1, -value, -2 * value, value, 1 << int(random.random() * 63)))
        return min(max(value + change, -(1 << 63)), (1 << 64) - 1)
    if isinstance(value, float):
        return value * random.choice((-1.0, 0.5, 2.0, 1e30, 1e-30, 1e300))
    return _rearranged(value, odd, random)


def _rearranged(value: Any, odd: Sequence[Any], random: Random) -> Any:
    """Return a list or a mapping with another number of items, in another order or deeper."""
    if isinstance(value, list):
        items, index = list(value), int(random.random() * (len(value) + 1))
        match int(random.random() * 5):
            case 0:
                del items[index : index + 1]
            case 1:
                items.insert(index, random.choice(odd))
            case 2:
                items[index:index] = items[index - 1 : index] * random.choice((1, 2, 50))
            case 3:
                random.shuffle(items)
            case _:
                return [items]
        return items
    pairs = list(value.items())
    if pairs and random.random() < 0.6:
        key, item = pairs.pop(int(random.random() * len(pairs)))
        if random.random() < 0.6:
            pairs.append((changed_value(key, odd, random), item))
    else:
        pairs.append((random.choice(odd), random.choice(odd)))
    return dict(pair for pair in pairs if not isinstance(pair[0], list | dict))
