"""Groups of entries as random directions, rounded by thresholds that sender and receiver draw."""

from dataclasses import dataclass, replace

from mlmc_ray.compressors.base import check_whole, is_whole
from mlmc_ray.compressors.shared_plans import Rule
from mlmc_ray.compressors.shared_rounding import BLOCK, Layout, SharedRounding
from mlmc_ray.payloads.grouping import MAX_BITS, MAX_GROUP


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedDirections(SharedRounding):
    """Send groups of entries as random directions, with magnitudes rounded by shared thresholds.

    For a group x of n entries c is the unit vector of largest <x, c> in a codebook of 2^bits that
    both sides draw, S = |x|^2 / <x, c>, and the group becomes q step c with q = floor(S / step +
    u). The codebook is made of independent random bases and of their negatives: its law is that of
    any of its rotations, so E[S c] is parallel to x, and <S c, x> = |x|^2 in every draw; hence the
    mean is x exactly, but for the rounding of the codebook to float32. Given the codebook the
    variance is the sum of step^2 f (1 - f) + S^2 - |x|^2, f being the fraction of S / step.

    The groups of a layer have ``group_size`` entries, or half as many and so on down to 4, or its
    entries are rounded one by one, as by ``SharedThresholds`` in interleaved blocks: whatever is
    expected to cost least in bits and error. A codebook has at most 16 entries for each of the
    vector.

    Give exactly one of the first six.

    Attributes:
        step: the step itself.
        rms: the step over the root mean square of the entries.
        peak: the step over the largest magnitude; from 1, no count is above 1.
        bits_per_value: bits of the frame an entry that are expected; the step is solved for.
        message_bytes: bytes of the frame that are expected; the step is solved for.
        target_omega: E|C(v) - v|^2 / |v|^2 that is expected; the step is solved for.
        layout: "interleaved": group g of G has the entries g, g + G, g + 2 G of a layer;
            "contiguous": a group is a run of entries.
        group_size: the largest n, a power of two from 2 to 128.
        bits: of a direction, 4 to 12; enough for a basis, 2^(bits - 1) >= ``group_size``.
        coordinated: the workers' thresholds are evenly spread as well, as for
            ``SharedThresholds``; the directions of a worker are its own.
        layer_shapes: set by ``bind``; while there are none, the vector is one layer.
        drawing: set by ``bind`` where coordinated.

    References:
        Sakrison, 1968; Dai et al., 2019, arXiv:1911.04655; Gandikota et al., 2019,
        arXiv:1911.07971; the scale is that of Vargaftik et al., 2021, arXiv:2105.08339.
    """

    layout: Layout = "contiguous"
    group_size: int = 64
    bits: int = 10

    def __post_init__(self) -> None:
        super(SharedDirections, self).__post_init__()
        check_whole("bits", self.bits, 4, MAX_BITS)
        size = self.group_size
        if not (is_whole(size) and 2 <= size <= MAX_GROUP and size & (size - 1) == 0):
            raise ValueError(f"group_size is {size!r}: give a power of two, 2 to {MAX_GROUP}")
        if size > 1 << (self.bits - 1):
            raise ValueError(
                f"bits is {self.bits}: give at least {size.bit_length()} for groups of {size}"
            )

    def _rule(self) -> Rule:
        return replace(
            super(SharedDirections, self)._rule(),
            interleaved_entries=True,
            largest_group=self.group_size,
            bits=self.bits,
            block=BLOCK,
        )
