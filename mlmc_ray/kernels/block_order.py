"""Groups of a layer in the order in which its blocks are coded, and back in ascending order."""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_Ints = npt.NDArray[np.int64]


def coding_order(groups: _Ints, order: _Ints, block_size: int, interleaved: bool) -> _Ints:
    """Return the places of ``groups`` from the first block to the last, ascending in each.

    Args:
        groups: ascending, of the layer; not modified.
        order: shape (num_blocks,): the blocks as they are coded.
        block_size: groups of a block.
        interleaved: whether block b has the groups b, b + num_blocks, ...; if not, it has
            b * block_size and those that follow.
    """
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return _stable_order(ranks[_blocks_of(groups, len(order), block_size, interleaved)], len(order))


def ascending_order(groups: _Ints, num_blocks: int, block_size: int, interleaved: bool) -> _Ints:
    """Return the places of ``groups`` from the least to the largest.

    Args:
        groups: block by block, in any order of the blocks, and ascending in each; not modified.
        num_blocks: of the layer.
        block_size: groups of a block.
        interleaved: as above.
    """
    by_block = _stable_order(_blocks_of(groups, num_blocks, block_size, interleaved), num_blocks)
    if not interleaved or block_size == 1:
        return by_block
    rows = _quotients(groups[by_block], num_blocks)
    return np.asarray(by_block[_stable_order(rows, int(rows.max(initial=0)) + 1)])


@compiled
def _blocks_of(groups: _Ints, num_blocks: int, block_size: int, interleaved: bool) -> _Ints:
    blocks = np.empty_like(groups)
    for i in range(len(groups)):
        blocks[i] = groups[i] % num_blocks if interleaved else groups[i] // block_size
    return blocks


@compiled
def _quotients(numbers: _Ints, divisor: int) -> _Ints:
    quotients = np.empty_like(numbers)
    for i in range(len(numbers)):
        quotients[i] = numbers[i] // divisor
    return quotients


@compiled
def _stable_order(keys: _Ints, num_keys: int) -> _Ints:
    """Return the places of the keys, which are below ``num_keys``, from the least key on."""
    begins = np.zeros(num_keys + 1, dtype=np.int64)
    for key in keys:
        begins[key + 1] += 1
    for key in range(num_keys):
        begins[key + 1] += begins[key]
    places = np.empty_like(keys)
    for i in range(len(keys)):
        places[begins[keys[i]]] = i
        begins[keys[i]] += 1
    return places
