"""Quantised vectors on the wire."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlmc_ray.errors import MlmcRayError, NonFiniteError, WireError
from mlmc_ray.kernels.packing import pack_bits, unpack_bits, width_of
from mlmc_ray.kernels.symbol_coding import decode_symbols, encode_symbols
from mlmc_ray.payloads import Codebook, CodesPayload, Grid, Powers, Table
from mlmc_ray.payloads.codes import LARGEST_FLOAT
from mlmc_ray.wire.fields import (
    Limits,
    check_reach,
    float_bytes,
    quote,
    read_binary,
    read_dim,
    read_floats,
    read_integer,
)

_LARGEST_ALPHABET = 0xFFFF  # that is coded by frequency
_LARGEST_CODE = (1 << 31) - 1


def pack_codes(name: str, payload: CodesPayload) -> list[Any]:
    """Return the fields of a quantised vector."""
    low, high = (
        read_integer(f"{name}.codes", end, -_LARGEST_CODE, _LARGEST_CODE) for end in payload.range()
    )
    _check_peak(name, payload.codebook, low, high, payload.scales, NonFiniteError)
    alphabet = high - low + 1
    codes = payload.codes.cpu().contiguous().numpy()
    if alphabet > _LARGEST_ALPHABET:
        packed = pack_bits(codes.astype(np.int64) - low, width_of(alphabet))
    else:
        dtype = np.uint8 if alphabet <= 256 else np.uint16
        # Wrapping is right: the difference fits, whatever the codes' own dtype.
        packed = encode_symbols(codes.astype(dtype) - np.array(low).astype(dtype), alphabet)
    scales = float_bytes(f"{name}.scales", payload.scales)
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
    units = _read_scales(name, scales, -(-length // size))
    first = read_integer(f"{name}.low", low, -_LARGEST_CODE, _LARGEST_CODE)
    number = read_integer(f"{name}.alphabet", alphabet, 1, _LARGEST_CODE - first + 1)
    book = _unpack_codebook(name, codebook)
    _check_peak(name, book, first, first + number - 1, units, WireError)
    symbols = _read_symbols(f"{name}.codes", codes, length, number)
    fits = first >= -128 and first + number <= 128
    shifted: npt.NDArray[Any] = symbols.astype(np.int8 if fits else np.int32)
    shifted += shifted.dtype.type(first)
    return CodesPayload(torch.from_numpy(shifted), units, size, book)


def _check_peak(
    name: str,
    book: Codebook,
    low: int,
    high: int,
    scales: torch.Tensor,
    error: type[MlmcRayError],
) -> None:
    """Refuse codes that the codebook does not have, and entries that float32 does not hold."""
    try:
        peak = book.peak(low, high)
    except ValueError as unknown:
        raise WireError(f"{name}.codebook: {unknown}") from unknown
    check_reach(f"{name}.scales", peak * float(scales.abs().max()), error)


def _read_scales(name: str, value: object, expected: int) -> torch.Tensor:
    scales = read_floats(f"{name}.scales", value)
    if scales.numel() != expected:
        raise WireError(f"{name}.scales: expected one a bucket, {expected}, got {scales.numel()}")
    return scales


def _read_symbols(field: str, value: object, count: int, alphabet: int) -> npt.NDArray[Any]:
    """Return the codes, less the lowest."""
    data = read_binary(field, value)
    try:
        if alphabet <= _LARGEST_ALPHABET:
            return decode_symbols(data, count, alphabet)
        symbols = unpack_bits(data, count, width_of(alphabet))
        if symbols.max() >= alphabet:
            raise ValueError(f"expected symbols below {alphabet}, got {symbols.max()}")
        return symbols
    except ValueError as error:
        raise WireError(f"{field}: {error}") from error


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
    try:
        return Powers(number)
    except ValueError as error:
        raise WireError(f"{field}: {error}") from error
