"""How a vector is rounded by shared thresholds: the step, and the groups that layers are cut into.

References:
    For the choice by bits and error at one exchange rate: Shoham and Gersho, "Efficient bit
    allocation for an arbitrary set of quantizers", 1988.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mlmc_ray.compressors.shared_groups import Floats, Layers, Rounding
from mlmc_ray.compressors.step_rates import (
    inverse_square_cosine,
    numbers_above,
    rounding_cost,
    step_of,
)
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.payloads.grouping import Grouping, fits
from mlmc_ray.payloads.shared_counts import layers_of, pack_counts
from mlmc_ray.payloads.shared_rounding import MOST_STEPS

LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = 2.0**-149
_LEAST_GROUP = 4  # below which entries are rounded one by one
_OTHER_SEED = 0x5EED
_FRAME_BYTES = 50  # of what a frame has beside layers, counts and directions
_LAYER_BYTES = 6  # of the shape, the group size and the scale of a layer


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What a compressor says of all vectors.

    Attributes:
        step: how the step is found, a name of ``STEPS``.
        value: that goes with it.
        shapes: rows and columns of every layer; none if the vector is one layer.
        interleaved_entries: see ``Grouping``.
        interleaved_groups: see ``Grouping``.
        largest_group: entries a group where nothing speaks for fewer.
        bits: of a direction.
        block: groups of one entry that share a threshold.
        worker_id: see ``Grouping``.
        num_workers: see ``Grouping``.
    """

    step: str
    value: float
    shapes: tuple[tuple[int, int], ...]
    interleaved_entries: bool
    interleaved_groups: bool
    largest_group: int = 1
    bits: int = 1
    block: int = 1
    worker_id: int = 0
    num_workers: int = 1


class Plan:
    """How one vector is rounded.

    Args:
        rule: of the compressor.
        layers: of the vector, which is not zero.
    """

    def __init__(self, rule: Rule, layers: Layers) -> None:
        self._rule = rule
        self._layers = layers
        self._tables: dict[tuple[int, int], Floats] = {}

    def step(self) -> float:
        """Return the step, as float32 holds it; at least the smallest such number.

        Raises:
            NonFiniteError: it does not fit float32.
            ValueError: no message is as short as wanted.
        """
        wanted = STEPS[self._rule.step](self, self._rule.value)
        if not wanted <= LARGEST:
            raise NonFiniteError(
                f"a step of {wanted:g} does not fit float32, whose largest number is "
                f"{LARGEST:g}: scale the vector down"
            )
        return max(float(np.float32(wanted)), _SMALLEST)

    def grouping(self, step: float) -> Grouping:
        """Return how the layers are cut for a step: each as is cheapest.

        The cost of a layer is its expected bits and, for an error of step^2, as many bits as a
        direction has: so the two trade where few groups are sent and the step changes.
        """
        rule, layers = self._rule, range(len(self._layers.shapes))
        alone = rule.largest_group == 1
        return Grouping(
            shapes=self._layers.shapes,
            group_sizes=tuple(1 if alone else self._cheapest(i, step)[0] for i in layers),
            bits=rule.bits,
            block=rule.block,
            interleaved_entries=rule.interleaved_entries,
            interleaved_groups=rule.interleaved_groups,
            worker_id=rule.worker_id,
            num_workers=rule.num_workers,
        )

    def for_rms(self, value: float) -> float:
        """Return the step that is ``value`` times the root mean square of the entries."""
        return value * self._layers.rms

    def for_peak(self, value: float) -> float:
        """Return the step that is ``value`` times the largest magnitude."""
        return value * self._layers.peak

    def for_bytes(self, value: float) -> float:
        """Return the step whose frame is expected to have ``value`` bytes.

        It is found for an ideal code that knows layers and thresholds, and once more by what a
        message with other thresholds takes, since the code knows rows and columns too.

        Raises:
            ValueError: a frame has more whatever the step is.
        """
        header = _FRAME_BYTES + _LAYER_BYTES * len(self._layers.shapes)
        if not value > header:
            raise ValueError(
                f"{value:g} bytes are asked for where a message of {len(self._layers.shapes)} "
                f"layers and {self._layers.dim} entries takes about {header} before it says "
                "anything: ask for more"
            )
        wanted = 8 * (value - header)
        first = self._step_of_bits(wanted)
        needed = self._bits_of_another(first)
        return self._step_of_bits(wanted * wanted / needed) if needed else first

    def _step_of_bits(self, wanted: float) -> float:
        return step_of(lambda step: sum(self._costs(step, 1)), wanted, self._layers.rms)

    def _bits_of_another(self, step: float) -> int:
        """Return the bits of counts and directions of a message that nobody gets.

        Its seed has nothing to do with that of the message sent, which stays unbiased so.
        """
        grouping = self.grouping(step)
        places, counts, _ = Rounding(self._layers, grouping, step, _OTHER_SEED).sent()
        code = pack_counts(grouping, _OTHER_SEED, places, np.minimum(counts, MOST_STEPS))
        signs: int = sum(
            part.stop - part.start
            for layer, part in layers_of(grouping, places)
            if layer.group_size == 1
        )
        directions = (len(places) - signs) * self._rule.bits + signs
        return 8 * (len(code) - len(grouping.shapes)) + directions

    def for_bits_per_value(self, value: float) -> float:
        """Return the step whose frame is expected to have ``value`` bits an entry; as above."""
        return self.for_bytes(value * self._layers.dim / 8)

    def for_omega(self, value: float) -> float:
        """Return the step at which E|C(v) - v|^2 is expected to be ``value`` times |v|^2."""
        wanted = -value * self._layers.energy
        return step_of(lambda step: -sum(self._costs(step, 2)), wanted, self._layers.rms)

    def _costs(self, step: float, place: int) -> Iterator[float]:
        """Yield the expected bits (``place`` 1) or errors (2) of the layers."""
        for index in range(len(self._layers.shapes)):
            yield self._cheapest(index, step)[place]

    def _cheapest(self, index: int, step: float) -> tuple[int, float, float]:
        """Return the group size of a layer, its expected bits, and its expected error."""
        options = []
        for n in self._group_sizes(index):
            bits, error = self._cost(index, n, step)
            options.append((bits + self._rule.bits * error / step**2, n, bits, error))
        return min(options)[1:]

    def _group_sizes(self, index: int) -> Iterator[int]:
        """Yield the sizes that groups of a layer may have."""
        yield 1
        n = self._rule.largest_group
        least = min(n, _LEAST_GROUP)
        while n > 1 and n >= least:
            if n <= math.prod(self._layers.shapes[index]) and fits(
                n, self._rule.bits, self._layers.dim
            ):
                yield n
            n //= 2

    def _cost(self, index: int, n: int, step: float) -> tuple[float, float]:
        """Return the expected bits and error of a layer in groups of n entries."""
        excess = inverse_square_cosine(n, self._rule.bits) - 1
        bits, error = rounding_cost(self._table(index, n), step, self._rule.bits if n > 1 else 1)
        return bits, error + excess * self._layers.energies[index]

    def _table(self, index: int, n: int) -> Floats:
        """Return ``numbers_above`` of the magnitudes of a layer's groups of n entries."""
        if (index, n) not in self._tables:
            part = self._layers.part(index)
            if n > 1 or part.dtype != np.float32:
                scale = math.sqrt(inverse_square_cosine(n, self._rule.bits))
                magnitudes = np.sqrt(self._layers.squares(index, n)) * scale
                part = np.minimum(magnitudes, LARGEST).astype(np.float32)
            self._tables[index, n] = numbers_above(part)
        return self._tables[index, n]


STEPS: Mapping[str, Callable[[Plan, float], float]] = {
    "step": lambda _, value: value,
    "rms": Plan.for_rms,
    "peak": Plan.for_peak,
    "bits_per_value": Plan.for_bits_per_value,
    "message_bytes": Plan.for_bytes,
    "target_omega": Plan.for_omega,
}
"""The ways to find a step, by the field of the compressor that asks for it."""
