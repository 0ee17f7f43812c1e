"""How a vector is rounded by shared thresholds: the step, and the groups that layers are cut into.

References:
    For the choice by bits and error at one exchange rate: Shoham and Gersho, "Efficient bit
    allocation for an arbitrary set of quantizers", 1988.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

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
_RUN_BYTES = 5  # of the number, shape and group size of layers that are alike
_CORRECTIONS = 2  # by the length of other messages
_FINE_BITS = 4  # that an error of step^2 is worth where all is rounded finely: 3 / ln 2

_Sizes = tuple[int, ...]
_Falling = Callable[[float, _Sizes], float]


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

    def cut(self) -> tuple[float, Grouping]:
        """Return the step, as float32 holds it, and how the layers are cut.

        Where the step is not solved for, a layer is cut as is cheapest for it: in its expected bits
        and, for an error of step^2, as many bits as a direction has. So the two trade where few
        groups are sent and the step changes.

        Raises:
            NonFiniteError: the step does not fit float32.
            ValueError: no message is as short as wanted.
        """
        rule = self._rule
        wanted, sizes = STEPS[rule.step](self, rule.value)
        if not wanted <= LARGEST:
            raise NonFiniteError(
                f"a step of {wanted:g} does not fit float32, whose largest number is "
                f"{LARGEST:g}: scale the vector down"
            )
        step = max(float(np.float32(wanted)), _SMALLEST)
        return step, self._grouping(
            self._cheapest_sizes(step, rule.bits) if sizes is None else sizes
        )

    def for_step(self, value: float) -> tuple[float, None]:
        """Return the step itself."""
        return value, None

    def for_rms(self, value: float) -> tuple[float, None]:
        """Return the step that is ``value`` times the root mean square of the entries."""
        return value * self._layers.rms, None

    def for_peak(self, value: float) -> tuple[float, None]:
        """Return the step that is ``value`` times the largest magnitude."""
        return value * self._layers.peak, None

    def for_bytes(self, value: float) -> tuple[float, _Sizes]:
        """Return the step and the group sizes whose frame is expected to have ``value`` bytes.

        They are found for an ideal code that knows layers and thresholds; then the step, again, by
        what messages with other thresholds take, since the code knows rows and columns too.

        Raises:
            ValueError: a frame has more whatever the step is, or never so many.
        """
        shapes = self._layers.shapes
        header = _FRAME_BYTES + len(shapes) + _RUN_BYTES * sum(1 for _ in groupby(shapes))
        most = 4 * self._layers.dim + header
        if not header < value <= most:
            raise ValueError(
                f"{value:.0f} bytes are asked for a message of {self._layers.dim} entries in "
                f"{len(shapes)} layers, which takes about {header} before it says anything: ask "
                f"for more than that, and for {most} at most"
            )
        wanted = asked = 8 * (value - header)
        step, sizes = self._solved(wanted, self._bits, self._accuracy)
        for _ in range(_CORRECTIONS):
            needed = self._bits_of_another(step, sizes)
            if needed == 0:
                break
            asked *= wanted / needed
            step = self._step(asked, self._bits, sizes)
        return step, sizes

    def for_bits_per_value(self, value: float) -> tuple[float, _Sizes]:
        """Return those whose frame is expected to have ``value`` bits an entry; as above."""
        return self.for_bytes(value * self._layers.dim / 8)

    def for_omega(self, value: float) -> tuple[float, _Sizes]:
        """Return those at which E|C(v) - v|^2 is expected to be ``value`` times |v|^2."""
        return self._solved(-value * self._layers.energy, self._accuracy, self._bits)

    def _bits(self, step: float, sizes: _Sizes) -> float:
        return sum(self._cost(index, n, step)[0] for index, n in enumerate(sizes))

    def _accuracy(self, step: float, sizes: _Sizes) -> float:
        return -sum(self._cost(index, n, step)[1] for index, n in enumerate(sizes))

    def _solved(self, wanted: float, falling: _Falling, other: _Falling) -> tuple[float, _Sizes]:
        """Return the step and sizes at which a function of both, which falls with the step, is met.

        Where the cheapest sizes change, the function jumps. So of the sizes on both sides, and for
        the ways in which bits and error may trade, those are taken that do best by the other one of
        ``_bits``, the fewer the better, and ``_accuracy``. Large groups leave an error at any step.
        """
        found: set[_Sizes] = set()
        for bits in {min(_FINE_BITS, self._rule.bits), self._rule.bits}:

            def at_cheapest(step: float, bits: int = bits) -> float:
                return falling(step, self._cheapest_sizes(step, bits))

            ends = step_of(at_cheapest, wanted, self._layers.rms)
            found |= {self._cheapest_sizes(step, bits) for step in ends}
        solved = [(self._step(wanted, falling, sizes), sizes) for sizes in sorted(found)]
        met = [pair for pair in solved if falling(pair[0] / 2, pair[1]) > wanted]
        sign = 1 if other == self._bits else -1
        return min(met or solved, key=lambda pair: sign * other(*pair))

    def _step(self, wanted: float, falling: _Falling, sizes: _Sizes) -> float:
        """Return the step at which a function is met for given sizes."""
        return step_of(lambda step: falling(step, sizes), wanted, self._layers.rms)[1]

    def _bits_of_another(self, step: float, sizes: _Sizes) -> int:
        """Return the bits of counts and directions of a message that nobody gets.

        Its seed has nothing to do with that of the message sent, which stays unbiased so.
        """
        grouping = self._grouping(sizes)
        places, counts, _ = Rounding(self._layers, grouping, step, _OTHER_SEED).sent()
        code = pack_counts(grouping, _OTHER_SEED, places, np.minimum(counts, MOST_STEPS))
        signs: int = sum(
            part.stop - part.start
            for layer, part in layers_of(grouping, places)
            if layer.group_size == 1
        )
        directions = (len(places) - signs) * self._rule.bits + signs
        return 8 * (len(code) - len(grouping.shapes)) + directions

    def _grouping(self, sizes: _Sizes) -> Grouping:
        rule = self._rule
        return Grouping(
            shapes=self._layers.shapes,
            group_sizes=sizes,
            bits=rule.bits,
            block=rule.block,
            interleaved_entries=rule.interleaved_entries,
            interleaved_groups=rule.interleaved_groups,
            worker_id=rule.worker_id,
            num_workers=rule.num_workers,
        )

    def _cheapest_sizes(self, step: float, bits: int) -> _Sizes:
        """Return the group sizes that are cheapest if an error of step^2 is worth some bits."""
        layers = range(len(self._layers.shapes))
        if self._rule.largest_group == 1:
            return (1,) * len(layers)
        return tuple(self._cheapest(index, step, bits) for index in layers)

    def _cheapest(self, index: int, step: float, worth: int) -> int:
        """Return the group size of a layer; the smaller of two as cheap."""
        options = []
        for n in self._group_sizes(index):
            bits, error = self._cost(index, n, step)
            options.append((bits + worth * error / step**2, n))
        return min(options)[1]

    def _group_sizes(self, index: int) -> Iterator[int]:
        """Yield the sizes that groups of a layer may have."""
        yield 1
        most = min(
            largest_group(self._rule.largest_group, self._rule.bits, self._layers.dim),
            math.prod(self._layers.shapes[index]),
        )
        n = min(self._rule.largest_group, _LEAST_GROUP)
        while 1 < n <= most:
            yield n
            n *= 2

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


def largest_group(wanted: int, bits: int, dim: int) -> int:
    """Return the most entries of a group of a vector: ``wanted``, or what its codebook allows."""
    n = wanted
    while n > 1 and not fits(n, bits, dim):
        n //= 2
    return n


STEPS: Mapping[str, Callable[[Plan, float], tuple[float, _Sizes | None]]] = {
    "step": Plan.for_step,
    "rms": Plan.for_rms,
    "peak": Plan.for_peak,
    "bits_per_value": Plan.for_bits_per_value,
    "message_bytes": Plan.for_bytes,
    "target_omega": Plan.for_omega,
}
"""The ways to find a step, by the field of the compressor that asks for it."""
