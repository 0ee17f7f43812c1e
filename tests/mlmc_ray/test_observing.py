"""Looking at compressions: true numbers, and no influence on what is sent."""

import pytest
import torch

from mlmc_ray.compressors import Compressor, Context, PermK, RandK, TopK, bound
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import SegmentedTopKLadder
from mlmc_ray.observing import observed, observing
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation

VECTOR = torch.tensor([3.0, -4.0, 1.0, 0.0])
LADDER = SegmentedTopKLadder(segment_size=1)


def test_errors_and_norms_are_those_of_the_message() -> None:
    with observing() as seen:
        observed(TopK(k=1)).compress(VECTOR, generator=generator_for(0))
    (compression,) = seen.compressions
    assert (compression.compressor, compression.dim) == ("TopK", 4)
    assert compression.squared_norm == 26
    assert compression.squared_error == 10
    assert compression.levels == ()


@pytest.mark.parametrize("draws", [1, 3])
def test_levels_are_those_drawn(draws: int) -> None:
    estimator = MLMC(ladder=LADDER, draws=draws)
    with observing() as seen:
        payload = observed(estimator).compress(VECTOR, generator=generator_for(1))
        observed(estimator).compress(VECTOR, generator=generator_for(2))
    first, second = seen.compressions
    assert len(first.levels) == len(second.levels) == draws
    torch.testing.assert_close(
        payload.to_dense(), estimator.at_levels(VECTOR, first.levels).to_dense()
    )


def test_truncation_tells_its_last_level() -> None:
    with observing() as seen:
        payload = observed(RandomTruncation(ladder=LADDER)).compress(
            VECTOR, generator=generator_for(1)
        )
    (level,) = seen.compressions[0].levels
    assert int(payload.to_dense().count_nonzero()) == min(level, 3)


@pytest.mark.parametrize(
    "compressor",
    [RandK(k=2), PermK(num_workers=2, worker_id=1, seed=3), MLMC(ladder=LADDER)],
)
def test_constants_pass_through_and_messages_stay(compressor: Compressor) -> None:
    plain = compressor.compress(VECTOR, generator=generator_for(5))
    with observing():
        looked_at = observed(compressor)
        payload = looked_at.compress(VECTOR, generator=generator_for(5))
    assert torch.equal(payload.to_dense(), plain.to_dense())
    assert looked_at.unbiased == compressor.unbiased
    assert looked_at.omega(4) == compressor.omega(4)
    assert looked_at.alpha(4) == compressor.alpha(4)
    assert looked_at.paper_cost(4) == compressor.paper_cost(4)


def test_nobody_looks_unless_asked() -> None:
    compressor = bound(TopK(k=1), Context(generator_for(0)))
    assert observed(compressor) is compressor
    with observing(False) as seen:
        assert observed(compressor) is compressor
    assert not seen.compressions
    with observing(), observing(False):
        assert observed(compressor) is compressor
