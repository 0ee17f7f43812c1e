"""Quantised vectors on the wire."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlmc_ray.errors import WireError
from mlmc_ray.kernels.packing import pack_bits, unpack_bits, width_of
from mlmc_ray.kernels.symbol_coding import decode_symbols, encode_symbols
from mlmc_ray.payloads import Codebook, CodesPayload, Grid, Powers, Table
from mlmc_ray.wire.fields import (
    LARGEST_FLOAT,
    Limits,
    float_bytes,
    quote,
    read_binary,
    read_dim,
    read_floats,
    read_integer,
)

_LARGEST_ALPHABET = 0xFFFF  # that is coded by frequency
_LARGEST_BASE = 1024.0


def pack_codes(payload: CodesPayload) -> list[Any]:
    """Return the fields of a quantised vector."""
    low, high = payload.range()
    alphabet = high - low + 1
    codes = payload.codes.cpu().contiguous().numpy()
    if alphabet > _LARGEST_ALPHABET:
        packed = pack_bits(codes.astype(np.int64) - low, width_of(alphabet))
    else:
        dtype = np.uint8 if alphabet <= 256 else np.uint16
        # Wrapping is right: the difference fits, whatever the codes' own dtype.
        packed = encode_symbols(codes.astype(dtype) - np.array(low).astype(dtype), alphabet)
    scales = float_bytes(payload.scales)
    book = _pack_codebook(payload.codebook)
    return [payload.dim, payload.bucket_size, scales, book, low, alphabet, packed]


def unpack_codes(
    name: str,
    limits: Limits,
    dim: object,
    bucket_size: object,
    scales: object,
    codebook: object,
    low: object,
    alphabet: object,
    codes: object,
) -> CodesPayload:
    """Return the payload of hostile fields, or raise ``WireError``."""
    length = read_dim(name, dim, limits)
    size = read_integer(f"{name}.bucket_size", bucket_size, 1, length)
    units = read_floats(f"{name}.scales", scales)
    if units.numel() != -(-length // size):
        raise WireError(
            f"{name}.scales: {length} codes in buckets of {size} need {-(-length // size)} "
            f"scales, got {units.numel()}"
        )
    first = read_integer(f"{name}.low", low, -(1 << 31) + 1, (1 << 31) - 1)
    number = read_integer(f"{name}.alphabet", alphabet, 1, (1 << 31) - first)
    book = _unpack_codebook(name, codebook)
    if isinstance(book, Table) and not 0 <= first < first + number <= len(book.entries):
        raise WireError(f"{name}.codebook: {len(book.entries)} entries for codes up to {number}")
    data = read_binary(f"{name}.codes", codes)
    try:
        if number > _LARGEST_ALPHABET:
            symbols: npt.NDArray[Any] = unpack_bits(data, length, width_of(number))
            if symbols.max() >= number:
                raise ValueError(f"a code is above {first + number - 1}")
        else:
            symbols = decode_symbols(data, length, number)
    except ValueError as error:
        raise WireError(f"{name}.codes: {error}") from error
    with np.errstate(over="ignore", invalid="ignore"):  # a power may be infinite
        ends = book.values(np.array([first, first + number - 1]))
        largest = np.abs(ends).max() * float(units.abs().max())
    if not largest <= LARGEST_FLOAT:
        raise WireError(f"{name}.scales: the largest times a code is not a finite float32")
    fits = first >= -128 and first + number <= 128
    shifted: npt.NDArray[Any] = symbols.astype(np.int8 if fits else np.int32)
    shifted += shifted.dtype.type(first)
    return CodesPayload(torch.from_numpy(shifted), units, size, book)


def _pack_codebook(book: Codebook) -> Any:
    if isinstance(book, Grid):
        return [0, book.offset] if book.offset else 0
    if isinstance(book, Powers):
        return [1, book.base]
    assert isinstance(book, Table)
    return [2, np.asarray(book.entries, dtype="<f4").tobytes()]


def _unpack_codebook(name: str, value: object) -> Codebook:
    field = f"{name}.codebook"
    if type(value) is int and value == 0:
        return Grid()
    if not isinstance(value, list) or len(value) != 2 or value[0] not in (0, 1, 2):
        raise WireError(f"{field}: expected 0, [0, offset], [1, base] or [2, entries]")
    if value[0] == 2:
        return Table(tuple(read_floats(field, value[1]).tolist()))
    number = value[1]
    if not isinstance(number, float) or not abs(number) <= LARGEST_FLOAT:
        raise WireError(f"{field}: expected a finite float32, got {quote(number)}")
    if value[0] == 0:
        return Grid(number)
    if not 1 < number <= _LARGEST_BASE:
        raise WireError(f"{field}: a base is above 1 and at most {_LARGEST_BASE}, got {number!r}")
    return Powers(number)
