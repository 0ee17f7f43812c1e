"""Groups rounded by shared thresholds, on the wire."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlmc_ray.errors import NonFiniteError, WireError
from mlmc_ray.kernels.packing import pack_bits, unpack_bits
from mlmc_ray.payloads.grouping import MAX_BITS, MAX_LAYERS, MAX_SIDE, MAX_TURNS, Grouping
from mlmc_ray.payloads.shared_counts import layers_of, pack_counts, unpack_counts
from mlmc_ray.payloads.shared_rounding import MOST_STEPS, SharedRoundingPayload
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
from mlmc_ray.wire.layer_runs import pack_runs, read_runs

_Ints = npt.NDArray[np.int64]


def pack_shared(name: str, payload: SharedRoundingPayload) -> list[Any]:
    """Return dim, seed, step, form, layers, counts, directions."""
    grouping = payload.grouping
    read_integer(f"{name}.layers", len(grouping.shapes), 1, MAX_LAYERS)
    check_reach(name, payload.reach(), NonFiniteError)
    places, counts, codes = (
        part.cpu().numpy() for part in (payload.places, payload.counts, payload.codes)
    )
    check_count(f"{name}.counts", len(places), len(counts))
    check_count(f"{name}.codes", len(places), len(codes))
    form = [
        grouping.bits,
        int(grouping.interleaved_entries) + 2 * int(grouping.interleaved_groups),
        grouping.block,
        grouping.worker_id,
        grouping.num_workers,
    ]
    step = float_bytes(f"{name}.step", torch.tensor([payload.step]))
    return [
        payload.dim,
        read_seed(name, payload.seed),
        step,
        form,
        pack_runs(grouping.shapes, grouping.group_sizes),
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
        places, numbers = unpack_counts(read_binary(f"{name}.counts", counts), grouping, key)
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


def _read_grouping(name: str, dim: int, form: object, layers: object) -> Grouping:
    field = f"{name}.form"
    if not isinstance(form, list) or len(form) != 5:
        raise WireError(
            f"{field}: expected [bits, interleaved, block, worker_id, num_workers], got "
            f"{quote(form)}"
        )
    interleaved = read_integer(f"{field}.interleaved", form[1], 0, 3)
    workers = read_integer(f"{field}.num_workers", form[4], 1, MAX_TURNS)
    common = {
        "bits": read_integer(f"{field}.bits", form[0], 1, MAX_BITS),
        "block": read_integer(f"{field}.block", form[2], 1, MAX_SIDE),
        "worker_id": read_integer(f"{field}.worker_id", form[3], 0, workers - 1),
        "num_workers": workers,
    }
    try:
        runs = read_runs(read_binary(f"{name}.layers", layers), dim)
        return Grouping(
            shapes=tuple((run.rows, run.columns) for run in runs for _ in range(run.number)),
            group_sizes=tuple(run.group_size for run in runs for _ in range(run.number)),
            interleaved_entries=bool(interleaved & 1),
            interleaved_groups=bool(interleaved & 2),
            **common,
        )
    except ValueError as error:
        raise WireError(f"{name}.layers: {error}") from error


# -- which groups, and how many steps ----------------------------------------------------------


def _pack_counts(name: str, payload: SharedRoundingPayload, places: _Ints, counts: _Ints) -> bytes:
    grouping = payload.grouping
    if len(places) and not (
        places[0] >= 0 and places[-1] < grouping.num_groups and (np.diff(places) > 0).all()
    ):
        raise WireError(
            f"{name}.places: sort them, and give each once, below {grouping.num_groups}"
        )
    read_integer(f"{name}.counts", int(counts.max(initial=1)), 1, MOST_STEPS)
    read_integer(f"{name}.counts", int(counts.min(initial=1)), 1, MOST_STEPS)
    return pack_counts(grouping, payload.seed, places, counts)


# -- signs and directions ----------------------------------------------------------------------


def _are_signs(grouping: Grouping, places: _Ints) -> npt.NDArray[np.bool_]:
    """Return which places are groups of one entry."""
    signs = np.zeros(len(places), dtype=np.bool_)
    for layer, part in layers_of(grouping, places):
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
