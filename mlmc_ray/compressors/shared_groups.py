"""Groups of a vector on their way into a message: their step, their sizes, and what is sent."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.compressors.step_rates import expected_bits, numbers_above, step_of
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.device import array_of
from mlmc_ray.kernels.norms import bucket_norms
from mlmc_ray.kernels.shared_rounding import group_entries, group_squares, rounded_entries
from mlmc_ray.payloads.shared_rounding import Grouping, LayerGroups, codebook, fits

_Array = npt.NDArray[np.floating]
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = 2.0**-149
_LEAST_GROUP = 4  # below which entries are rounded one by one
_FULLEST = 0.8  # steps in the mean magnitude of a layer's groups, above which they are halved
_TIE = 1e-5  # by which products in float32 are relied on to differ
_CHUNK = 8192  # groups whose products with a codebook are taken at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What a compressor says of all vectors.

    Attributes:
        step: the step, or None.
        rms: the step over the root mean square of the entries, or None.
        bits_per_value: bits an entry that are wanted, or None.
        interleaved: see ``kernels.shared_rounding``.
        layer_sizes: entries of every layer; none if the vector is one layer.
        largest_group: entries a group where nothing speaks for fewer.
        bits: of a direction.
        block: groups of one entry that share a threshold.
    """

    step: float | None
    rms: float | None
    bits_per_value: float | None
    interleaved: bool
    layer_sizes: tuple[int, ...]
    largest_group: int
    bits: int
    block: int


class Plan:
    """One vector on its way: its layers, and what is computed of them once."""

    def __init__(self, rule: Rule, vector: Tensor) -> None:
        self._rule = rule
        self._values: _Array = array_of(vector.detach().cpu())
        self._sizes = rule.layer_sizes or (len(self._values),)
        if sum(self._sizes) != len(self._values):
            raise ValueError(
                f"layer_sizes add up to {sum(self._sizes)}, and the vector has "
                f"{len(self._values)} entries"
            )
        ends = np.cumsum(self._sizes)[:-1]
        parts = np.split(self._values, ends)
        norms = (float(bucket_norms(torch.from_numpy(part), len(part), 2)) for part in parts)
        self._energies = [norm**2 for norm in norms]
        self._tables = cache(self._table)
        self._codebooks = cache(codebook)

    def step(self) -> float:
        """Return the step, as float32 holds it; at least the smallest such number."""
        rule = self._rule
        rms = math.sqrt(sum(self._energies) / len(self._values))
        if rule.step is not None:
            wanted = rule.step
        elif rule.rms is not None:
            wanted = rule.rms * rms
        else:
            assert rule.bits_per_value is not None
            bits = rule.bits_per_value * len(self._values)
            wanted = step_of(self._expected_bits, bits, rms)
        if not wanted <= LARGEST:
            raise NonFiniteError(
                f"a step of {wanted:g} does not fit float32, whose largest number is "
                f"{LARGEST:g}: scale the vector down"
            )
        return max(float(np.float32(wanted)), _SMALLEST)

    def grouping(self, step: float) -> Grouping:
        """Return how the layers are cut for a step."""
        rule = self._rule
        pairs = zip(self._sizes, self._energies, strict=True)
        groups = tuple(self._group_size(size, energy, step) for size, energy in pairs)
        return Grouping(self._sizes, groups, rule.bits, rule.block, rule.interleaved)

    def rounded(self, layer: LayerGroups, step: float, seed: int) -> tuple[_Ints, _Floats, _Ints]:
        """Return the groups sent of a layer, in the numbers of all layers; counts, and codes."""
        uniforms, values = layer.uniforms(seed), self._layer(layer)
        if layer.group_size == 1:
            places, signed = rounded_entries(values, step, uniforms, layer.block, layer.interleaved)
            return layer.first + places, np.abs(signed), (signed < 0).astype(np.int64)
        squares = self._squares(layer)
        bound = np.sqrt(squares * layer.group_size) * (1 + 1e-6)
        near = np.flatnonzero((bound >= (1 - uniforms) * step) & (squares > 0))
        magnitudes, codes = self._directions(layer, near, squares[near], seed)
        counts = np.floor(magnitudes / step + uniforms[near])
        sent = counts > 0
        return layer.first + near[sent], counts[sent], codes[sent]

    def magnitudes(self, layer: LayerGroups, seed: int) -> tuple[_Floats, _Floats]:
        """Return S and |x|^2 of every group of a layer."""
        squares = self._squares(layer)
        if layer.group_size == 1:
            return np.sqrt(squares), squares
        there = np.flatnonzero(squares)
        result = np.zeros(len(squares))
        result[there] = self._directions(layer, there, squares[there], seed)[0]
        return result, squares

    def _directions(
        self, layer: LayerGroups, groups: _Ints, squares: _Floats, seed: int
    ) -> tuple[_Floats, _Ints]:
        """Return S and the code of the best direction of some groups that are not zero."""
        rows = self._codebooks(seed, self._rule.bits, layer.group_size)
        magnitudes, codes = np.empty(len(groups)), np.empty(len(groups), dtype=np.int64)
        for start in range(0, len(groups), _CHUNK):
            part = slice(start, start + _CHUNK)
            entries = group_entries(self._layer(layer), groups[part], *self._cut(layer))
            norms = np.sqrt(squares[part])
            units = entries / norms[:, None]
            best = _nearest(units, rows)
            cosines = np.einsum("ij,ij->i", units, rows[best].astype(np.float64))
            magnitudes[part] = norms / np.abs(cosines)
            codes[part] = 2 * best + (cosines < 0)
        return magnitudes, codes

    def _group_size(self, size: int, energy: float, step: float) -> int:
        """Return the entries a group of a layer: see ``SharedDirections``."""
        n, bits = self._rule.largest_group, self._rule.bits
        least = min(n, _LEAST_GROUP)
        root = math.sqrt(energy / size)
        while n > 1 and (
            n > size
            or not fits(n, bits, len(self._values))
            or root * math.sqrt(n) / _typical_cosine(n, bits) > _FULLEST * step
        ):
            n = n // 2 if n > least else 1
        return n

    def _expected_bits(self, step: float) -> float:
        layers = self.grouping(step).layers()
        return expected_bits((self._tables(layer) for layer in layers), step)

    def _table(self, layer: LayerGroups) -> tuple[_Floats, int]:
        """Return ``numbers_above`` of the magnitudes of a layer's groups, and the bits of each."""
        n, bits = layer.group_size, self._rule.bits
        if n == 1:
            return numbers_above(self._layer(layer).astype(np.float32, copy=False)), 1
        magnitudes = np.sqrt(self._squares(layer)) / _typical_cosine(n, bits)
        return numbers_above(np.minimum(magnitudes, LARGEST).astype(np.float32)), bits

    def _layer(self, layer: LayerGroups) -> _Array:
        return self._values[layer.start : layer.start + layer.size]

    def _squares(self, layer: LayerGroups) -> _Floats:
        return group_squares(self._layer(layer), *self._cut(layer))

    @staticmethod
    def _cut(layer: LayerGroups) -> tuple[int, int, bool]:
        return layer.group_size, layer.num_groups, layer.interleaved


def _nearest(units: _Floats, rows: npt.NDArray[np.float32]) -> _Ints:
    """Return the row of largest |<x, row>| for every unit vector x, the same on every machine.

    Products in float32 decide where the best stands out; the others are compared in float64.
    """
    products = (torch.from_numpy(units.astype(np.float32)) @ torch.from_numpy(rows).T).abs_()
    largest, places = products.max(dim=1)
    near = (products >= (largest * (1 - _TIE))[:, None]).sum(dim=1) > 1
    best: _Ints = places.numpy()
    ties = np.flatnonzero(near.numpy())
    best[ties] = np.abs(units[ties] @ rows.T.astype(np.float64)).argmax(axis=1)
    return best


def _typical_cosine(n: int, bits: int) -> float:
    """Return about what <x, c> / |x| is for the best of 2^bits random directions c."""
    return min(1.0, math.sqrt(2 * math.log(2) * bits / n))
