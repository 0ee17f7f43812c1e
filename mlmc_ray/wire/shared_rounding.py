"""Groups rounded by shared thresholds, on the wire."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlmc_ray.errors import NonFiniteError, WireError
from mlmc_ray.kernels.byte_reader import ByteReader, length_bytes
from mlmc_ray.kernels.packing import pack_bits, unpack_bits
from mlmc_ray.kernels.threshold_coding import Blocks, bins_of, decode_counts, encode_counts
from mlmc_ray.payloads.shared_rounding import (
    MAX_BITS,
    MAX_GROUP,
    MAX_LAYERS,
    MOST_STEPS,
    Grouping,
    LayerGroups,
    SharedRoundingPayload,
)
from mlmc_ray.wire.fields import (
    Limits,
    check_count,
    check_reach,
    float_bytes,
    quote,
    read_binary,
    read_dim,
    read_floats,
    read_integer,
    read_seed,
)

_Ints = npt.NDArray[np.int64]
_SCALES = np.ldexp(1 + np.arange(256) % 4 / 4, np.arange(256) // 4 - 32)
"""What the scale of a layer stands for: about the mean magnitude of its groups, in steps."""
_MOST_BLOCK = (1 << 31) - 1


def pack_shared(name: str, payload: SharedRoundingPayload) -> list[Any]:
    """Return dim, seed, step, form, layers, counts, directions."""
    grouping = payload.grouping
    check_reach(name, payload.reach(), NonFiniteError)
    places, counts, codes = (
        part.cpu().numpy() for part in (payload.places, payload.counts, payload.codes)
    )
    check_count(f"{name}.counts", len(places), len(counts))
    check_count(f"{name}.codes", len(places), len(codes))
    form = [grouping.bits, int(grouping.interleaved), grouping.block]
    step = float_bytes(f"{name}.step", torch.tensor([payload.step]))
    return [
        payload.dim,
        read_seed(name, payload.seed),
        step,
        form,
        _pack_layers(name, grouping),
        _pack_counts(name, payload, places, counts),
        _pack_codes(name, grouping, places, codes),
    ]


def unpack_shared(
    name: str,
    limits: Limits,
    dim: object,
    seed: object,
    step: object,
    form: object,
    layers: object,
    counts: object,
    directions: object,
) -> SharedRoundingPayload:
    """Return the payload of hostile fields, or raise ``WireError``."""
    size, key = read_dim(name, dim, limits), read_seed(name, seed)
    steps = read_floats(f"{name}.step", step)
    check_count(f"{name}.step", 1, len(steps))
    grouping = _read_grouping(name, size, form, layers)
    try:
        places, numbers = _read_counts(read_binary(f"{name}.counts", counts), grouping, key)
    except ValueError as error:
        raise WireError(f"{name}.counts: {error}") from error
    try:
        codes = _read_codes(read_binary(f"{name}.directions", directions), grouping, places)
    except ValueError as error:
        raise WireError(f"{name}.directions: {error}") from error
    tensors = (torch.from_numpy(part) for part in (places, numbers, codes))
    payload = SharedRoundingPayload(grouping, key, float(steps[0]), *tensors)
    check_reach(name, payload.reach(), WireError)
    return payload


# -- how the vector is cut ---------------------------------------------------------------------


def _pack_layers(name: str, grouping: Grouping) -> bytes:
    """Return runs of equal layers, each as its length, their size, and log2 of the group size."""
    read_integer(f"{name}.layers", len(grouping.sizes), 1, MAX_LAYERS)
    pairs = zip(grouping.sizes, grouping.group_sizes, strict=True)
    runs = [(len(list(run)), *pair) for pair, run in groupby(pairs)]
    return b"".join(
        length_bytes(number) + length_bytes(size) + bytes([group.bit_length() - 1])
        for number, size, group in runs
    )


def _read_grouping(name: str, dim: int, form: object, layers: object) -> Grouping:
    field = f"{name}.form"
    if not isinstance(form, list) or len(form) != 3:
        raise WireError(f"{field}: expected [bits, interleaved, block], got {quote(form)}")
    bits = read_integer(f"{field}.bits", form[0], 1, MAX_BITS)
    interleaved = bool(read_integer(f"{field}.interleaved", form[1], 0, 1))
    block = read_integer(f"{field}.block", form[2], 1, _MOST_BLOCK)
    try:
        sizes, groups = _read_layers(read_binary(f"{name}.layers", layers), dim)
        return Grouping(sizes, groups, bits, block, interleaved)
    except ValueError as error:
        raise WireError(f"{name}.layers: {error}") from error


def _read_layers(data: bytes, dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    reader, left = ByteReader(data), dim
    sizes: list[int] = []
    groups: list[int] = []
    while left > 0:
        number, size, exponent = reader.length(), reader.length(), reader.take(1)[0]
        if not (0 < number <= MAX_LAYERS - len(sizes) and 0 < number * size <= left):
            raise ValueError(f"{number} layers of {size} entries where {left} entries are left")
        if exponent >= MAX_GROUP.bit_length():
            raise ValueError(f"expected groups of 2^7 entries at most, got 2^{exponent}")
        sizes += [size] * number
        groups += [1 << exponent] * number
        left -= number * size
    reader.expect_end()
    return tuple(sizes), tuple(groups)


# -- which groups, and how many steps ----------------------------------------------------------


def _pack_counts(name: str, payload: SharedRoundingPayload, places: _Ints, counts: _Ints) -> bytes:
    """Return the scale of every layer, and the counts of those that have any."""
    grouping = payload.grouping
    if len(places) and not (
        places[0] >= 0 and places[-1] < grouping.num_groups and (np.diff(places) > 0).all()
    ):
        raise WireError(
            f"{name}.places: sort them, and give each once, below {grouping.num_groups}"
        )
    read_integer(f"{name}.counts", int(counts.max(initial=1)), 1, MOST_STEPS)
    read_integer(f"{name}.counts", int(counts.min(initial=1)), 1, MOST_STEPS)
    scales = np.zeros(len(grouping.sizes), dtype=np.uint8)
    dense, known = [], []
    for layer, part in _of_layers(grouping, places):
        every = np.zeros(layer.num_groups, dtype=np.uint32)
        every[places[part] - layer.first] = counts[part]
        mean = float(counts[part].astype(np.float64).sum()) / layer.num_groups
        scales[layer.index] = max(1, int(np.searchsorted(_SCALES, mean, "right")) - 1)
        dense.append(every)
        known.append(_blocks(layer, payload.seed, int(scales[layer.index])))
    return scales.tobytes() + encode_counts(dense, known)


def _read_counts(data: bytes, grouping: Grouping, seed: int) -> tuple[_Ints, _Ints]:
    reader = ByteReader(data)
    scales = reader.take(len(grouping.sizes))
    layers = [layer for layer in grouping.layers() if scales[layer.index]]
    dense = decode_counts(
        reader.rest(), [_blocks(layer, seed, scales[layer.index]) for layer in layers]
    )
    places = [np.flatnonzero(every) for every in dense]
    found = [layer.first + part for layer, part in zip(layers, places, strict=True)]
    counts = [every[part].astype(np.int64) for every, part in zip(dense, places, strict=True)]
    none = np.zeros(0, dtype=np.int64)
    return np.concatenate([none, *found]), np.concatenate([none, *counts])


def _blocks(layer: LayerGroups, seed: int, scale: int) -> Blocks:
    """Return what both sides know: blocks by falling u, and thresholds over the mean magnitude."""
    uniforms = layer.uniforms(seed)
    return Blocks(
        num_groups=layer.num_groups,
        block_size=layer.block,
        interleaved=layer.interleaved,
        order=np.argsort(-uniforms, kind="stable"),
        bins=bins_of((1 - uniforms) / _SCALES[scale]),
        columns=layer.num_groups,
    )


def _of_layers(grouping: Grouping, places: _Ints) -> Iterator[tuple[LayerGroups, slice]]:
    """Yield every layer that has a place, and where its places are."""
    for layer in grouping.layers():
        low, high = np.searchsorted(places, (layer.first, layer.first + layer.num_groups))
        if low < high:
            yield layer, slice(low, high)


# -- signs and directions ----------------------------------------------------------------------


def _are_signs(grouping: Grouping, places: _Ints) -> npt.NDArray[np.bool_]:
    """Return which places are groups of one entry."""
    signs = np.zeros(len(places), dtype=np.bool_)
    for layer, part in _of_layers(grouping, places):
        signs[part] = layer.group_size == 1
    return signs


def _pack_codes(name: str, grouping: Grouping, places: _Ints, codes: _Ints) -> bytes:
    """Return the codes of directions, and then the signs, as bit strings."""
    signs = _are_signs(grouping, places)
    limits = np.where(signs, 1, grouping.bits)
    if ((codes < 0) | (codes >> limits > 0)).any():
        raise WireError(f"{name}.codes: expected numbers below 2^{grouping.bits}, and signs 0 or 1")
    return pack_bits(codes[~signs], grouping.bits) + pack_bits(codes[signs], 1)


def _read_codes(data: bytes, grouping: Grouping, places: _Ints) -> _Ints:
    signs = _are_signs(grouping, places)
    number = len(places) - int(signs.sum())
    middle = (number * grouping.bits + 7) // 8
    codes = np.empty(len(places), dtype=np.int64)
    codes[~signs] = unpack_bits(data[:middle], number, grouping.bits)
    codes[signs] = unpack_bits(data[middle:], len(places) - number, 1)
    return codes
