"""Entries rounded to multiples of a step, by thresholds that sender and receiver draw."""

from dataclasses import dataclass, replace

from mlmc_ray.compressors.base import check_whole
from mlmc_ray.compressors.shared_plans import Rule
from mlmc_ray.compressors.shared_rounding import BLOCK, SharedRounding


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedThresholds(SharedRounding):
    """Round magnitudes to q = floor(|v| / step + u) steps, with u shared by both sides.

    The entries of a layer lie in blocks that have one u each. It is (pi(b) + U) / B for block b of
    B, with pi a random permutation and U uniform, so that every u is uniform, hence E q = |v| /
    step exactly, and thresholds are evenly spread over [0, 1), which keeps the size of the message
    and its norm steady. Both sides draw them from a seed in the message, so that they cost nothing
    and tell the receiver where to expect entries. The variance is the sum of step^2 f (1 - f), f
    being the fraction of |v| / step.

    Give exactly one of the first six.

    Attributes:
        step: the step itself.
        rms: the step over the root mean square of the entries.
        peak: the step over the largest magnitude; from 1, no count is above 1.
        bits_per_value: bits of the frame an entry that are expected; the step is solved for.
        message_bytes: bytes of the frame that are expected; the step is solved for.
        target_omega: E|C(v) - v|^2 / |v|^2 that is expected; the step is solved for.
        layout: "interleaved": entry j of a layer is in block j modulo B; "contiguous": a block is
            a run of entries, which costs less where magnitudes differ by place, but whose errors
            have a common sign where neighbours have.
        block: entries that share a threshold.
        coordinated: the workers' thresholds are evenly spread as well, by a seed that they share in
            a round, so that errors of like vectors cancel; every worker's own stay uniform.
        layer_shapes: set by ``bind``; while there are none, the vector is one layer.
        drawing: set by ``bind`` where coordinated.

    References:
        The rounding is that of TernGrad, Wen et al., 2017, arXiv:1705.07878; the shared thresholds
        are this project's own, near to No and Weissman, 2014, arXiv:1406.6730; their spread over
        the workers is that of Suresh et al., 2022, arXiv:2203.04925.
    """

    block: int = BLOCK

    def __post_init__(self) -> None:
        super(SharedThresholds, self).__post_init__()
        check_whole("block", self.block, 1, (1 << 31) - 1)

    def _rule(self) -> Rule:
        return replace(super(SharedThresholds, self)._rule(), block=self.block)
