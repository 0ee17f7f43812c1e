"""Which groups are said, and how many steps, as bytes: a code of what the thresholds leave open."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.byte_reader import ByteReader
from mlmc_ray.kernels.shared_uniform import falling_order
from mlmc_ray.kernels.threshold_coding import Blocks, bins_of, decode_places, encode_places
from mlmc_ray.payloads.grouping import Grouping, LayerGroups

_Ints = npt.NDArray[np.int64]
_SCALES = np.ldexp(1 + np.arange(256) % 4 / 4, np.arange(256) // 4 - 32)
"""What the scale of a layer stands for: about the mean magnitude of its groups, in steps."""


def pack_counts(grouping: Grouping, seed: int, places: _Ints, counts: _Ints) -> bytes:
    """Return the scale of every layer, and the counts of those that have any.

    Args:
        grouping: of the vector.
        seed: of the thresholds.
        places: of the groups that are said, ascending, in the numbers of all layers.
        counts: theirs, 1 to 2^32 - 1.
    """
    scales = np.zeros(len(grouping.shapes), dtype=np.uint8)
    groups, sent, known = [], [], []
    for layer, part in layers_of(grouping, places):
        groups.append(places[part] - layer.first)
        sent.append(counts[part])
        mean = float(counts[part].astype(np.float64).sum()) / layer.num_groups
        scales[layer.index] = max(1, int(np.searchsorted(_SCALES, mean, "right")) - 1)
        known.append(_blocks(layer, seed, int(scales[layer.index])))
    return scales.tobytes() + encode_places(groups, sent, known)


def unpack_counts(data: bytes, grouping: Grouping, seed: int) -> tuple[_Ints, _Ints]:
    """Return the places and counts of ``pack_counts``.

    Raises:
        ValueError: the bytes are not what such counts give.
    """
    reader = ByteReader(data)
    scales = reader.take(len(grouping.shapes))
    layers = [layer for layer in grouping.layers() if scales[layer.index]]
    found = decode_places(
        reader.rest(), [_blocks(layer, seed, scales[layer.index]) for layer in layers]
    )
    none = np.zeros(0, dtype=np.int64)
    places = [layer.first + groups for layer, (groups, _) in zip(layers, found, strict=True)]
    return np.concatenate([none, *places]), np.concatenate([none, *(sent for _, sent in found)])


def layers_of(grouping: Grouping, places: _Ints) -> Iterator[tuple[LayerGroups, slice]]:
    """Yield every layer that has a place, and where its places are."""
    layers, low = list(grouping.layers()), 0
    limits = np.searchsorted(places, [layer.first + layer.num_groups for layer in layers])
    for layer, high in zip(layers, limits.tolist(), strict=True):
        if low < high:
            yield layer, slice(low, high)
        low = high


def _blocks(layer: LayerGroups, seed: int, scale: int) -> Blocks:
    """Return what both sides know: blocks by falling u, and thresholds over the mean magnitude."""
    uniforms = layer.uniforms(seed)
    return Blocks(
        num_groups=layer.num_groups,
        block_size=layer.block,
        interleaved=layer.interleaved,
        order=falling_order(uniforms),
        bins=bins_of((1 - uniforms) / _SCALES[scale]),
        columns=layer.group_columns,
    )
