"""The ladder of entropy-constrained quantisers: its unbiased top, and its joint codes."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.compressors import ECUQ, TopK, quantization
from mlmc_ray.estimator import MLMC, CostAwareLaw
from mlmc_ray.kernels.rounding import nearest_counts
from mlmc_ray.ladders import ECUQLadder, ecuq
from mlmc_ray.payloads import (
    CodesPayload,
    DensePayload,
    Grid,
    Message,
    Payload,
    SumPayload,
    Table,
    ZeroPayload,
)
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import encode
from mlmc_ray.wire.ideal import entropy_bits
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

SOME = settings(max_examples=40, deadline=None)
UNBIASED = ECUQLadder(budgets=(1, 2), construction="unbiased")
SPREAD = torch.tensor([1.0, -0.9, 0.6, 0.1, 0.0, -1e-3, 0.33, -0.61])
NARROW = torch.tensor([1.0, 1 + 2.0**-23, 1 + 2.0**-22, 1.0, 1.0, 1.0, 1.0, 1.0])


def top_of(ladder: ECUQLadder, vector: Tensor, seed: int) -> Tensor:
    """Return the sum of all increments."""
    levels = ladder.levels(vector, generator=generator_for(seed))
    parts = [dense(received(levels.increment(level))) for level in range(1, len(levels) + 1)]
    return sum(parts, start=torch.zeros(len(vector), dtype=torch.float64))


def finest(ladder: ECUQLadder, vector: Tensor) -> Payload:
    return ECUQ(bits=ladder.budgets[-1]).compress(vector, generator=generator_for(0))


@given(vector=vectors(widest=20), seed=st.integers(0, 1000))
@example(vector=GOLDEN, seed=0)
@example(vector=SPREAD, seed=1)
@SOME
def test_the_top_is_a_neighbouring_point_of_the_finest_grid(vector: Tensor, seed: int) -> None:
    step = finest(UNBIASED, vector)
    levels = UNBIASED.levels(vector, generator=generator_for(seed))
    if not isinstance(step, CodesPayload) or float(vector.min()) == float(vector.max()):
        assert torch.equal(top_of(UNBIASED, vector, seed), vector.double())
        return
    assert isinstance(step.codebook, Grid)
    width, largest = float(step.scales), float(vector.abs().max())
    top = sum(
        (dense(levels.increment(level)) for level in (1, 2)),
        start=torch.zeros(len(vector), dtype=torch.float64),
    )
    rounding = 1e-6 * largest
    assert float((top - vector).abs().max()) < max(width, 2.0**-23 * largest) + rounding
    if width > 1e-3 * largest:
        cells = top / width - step.codebook.offset
        assert float((cells - cells.round()).abs().max()) * width <= rounding
        low, high = step.range()
        assert bool(((cells > low - 1.01) & (cells < high + 1.01)).all())


@given(vector=vectors(widest=20))
@example(vector=SPREAD)
@example(vector=NARROW)
@SOME
def test_the_two_points_of_every_entry_have_it_as_their_mean(vector: Tensor) -> None:
    """Round everything towards zero, then away from it, and weigh both by their probabilities."""
    tops, chances = [], torch.zeros(len(vector), dtype=torch.float64)
    for away in (False, True):

        def one_way(
            values: Tensor, steps: Tensor, size: int, highest: int, seed: int, away: bool = away
        ) -> Tensor:
            heights = values.double() / float(steps)
            assert size == len(values)
            assert float(heights.abs().max()) <= highest
            chances.copy_(heights.abs().frac())
            return ((heights.abs().floor() + away) * heights.sign()).to(torch.int32)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ecuq, "linear_codes", one_way)
            levels = UNBIASED.levels(vector)
            tops.append(dense(levels.increment(1)) + dense(levels.increment(2)))
    mean = tops[0] + chances * (tops[1] - tops[0])
    # The codes of the lower step have a float32 scale and offset, and cancel.
    atol = 1e-6 * float(vector.abs().max())
    torch.testing.assert_close(mean, vector.double(), rtol=0, atol=atol)


DELTA = 1e-9  # a correct rounding fails the next test with at most this probability


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(SPREAD, id="spread"),
        pytest.param(GOLDEN, id="golden", marks=pytest.mark.slow),
        pytest.param(NARROW, id="narrow", marks=pytest.mark.slow),
    ],
)
def test_the_top_is_the_vector_in_expectation(vector: Tensor) -> None:
    n, dim = 4000, len(vector)
    mean, least, most = (torch.zeros(dim, dtype=torch.float64) for _ in range(3))
    least += math.inf
    most -= math.inf
    generator = generator_for(0)
    for _ in range(n):
        levels = UNBIASED.levels(vector, generator=generator)
        top = dense(levels.increment(1)) + dense(levels.increment(2))
        mean += (top - vector) / n
        least, most = torch.minimum(least, top), torch.maximum(most, top)
    span = float((most - least).max())
    margin = span * math.sqrt(math.log(2 * dim / DELTA) / (2 * n)) + 1e-9
    assert 0 < margin < 0.056 * span + 2e-9  # a bias of an eighth of a cell is caught
    assert bool((mean.abs() <= margin).all())
    if vector is not NARROW:
        # Two points each: with the mean, this is the two-point law.
        width = float(finest(UNBIASED, vector).scales)  # type: ignore[attr-defined]
        assert bool((most - least <= width * (1 + 1e-5)).all())
        assert bool((most >= vector - 1e-6).all())
        assert bool((least <= vector + 1e-6).all())
        ends = [int(vector.argmin()), int(vector.argmax())]  # half a cell outside the points
        assert bool((most - least)[ends].min() > width / 2)


def test_vectors_that_the_grid_holds_come_out_exact() -> None:
    for vector in (torch.zeros(4), torch.full((5,), -3.7), torch.tensor([2.5])):
        assert torch.equal(top_of(UNBIASED, vector, 0), vector.double())
    assert not UNBIASED.levels(torch.zeros(4)).norms().any()


def test_the_top_is_drawn_once_a_call_and_replaces_the_largest_budget() -> None:
    vector = torch.randn(50, generator=generator_for(0))
    levels = UNBIASED.levels(vector, generator=generator_for(5))
    assert len(levels) == 2
    assert len(ECUQLadder(budgets=(1, 2)).levels(vector)) == 3
    assert torch.equal(dense(levels.increment(2)), dense(levels.increment(2)))
    norms = [float(dense(levels.increment(level)).norm()) for level in (1, 2)]
    assert levels.norms().tolist() == pytest.approx(norms, rel=1e-6)
    assert not torch.equal(top_of(UNBIASED, vector, 5), top_of(UNBIASED, vector, 6))
    first = ECUQ(bits=1).compress(vector, generator=generator_for(0))
    assert torch.equal(dense(levels.increment(1)), dense(first))
    only = ECUQLadder(budgets=(3,), construction="unbiased")
    assert len(only.levels(vector)) == 1
    assert not torch.equal(top_of(only, vector, 1), top_of(only, vector, 2))


@pytest.mark.parametrize("construction", ["identity", "unbiased"])
def test_the_estimator_has_the_mean_of_the_top(construction: str) -> None:
    ladder = ECUQLadder(construction=construction)  # type: ignore[arg-type]
    vector = torch.randn(3000, generator=generator_for(2))
    estimator = MLMC(ladder=ladder)
    law = enumerate(estimator.probabilities(vector).tolist(), start=1)
    mean = sum(p * dense(received(estimator.at_levels(vector, [level]))) for level, p in law)
    levels = ladder.levels(vector)  # which draw from the same fixed seed
    numbers = range(1, len(levels) + 1)
    top = torch.stack([dense(levels.increment(level)) for level in numbers]).sum(dim=0)
    torch.testing.assert_close(mean, top, rtol=0, atol=1e-5)
    if construction == "identity":
        torch.testing.assert_close(mean, vector.double(), rtol=0, atol=1e-5)


def codes_of(payload: Payload) -> Tensor:
    assert isinstance(payload, CodesPayload)
    return payload.codes.long()


@pytest.mark.parametrize("construction", ["identity", "unbiased"])
@pytest.mark.parametrize("tails", [0.0, 3.0])
def test_joint_codes_are_as_short_as_the_pairs_are_uncertain(
    construction: str, tails: float
) -> None:
    ladder = ECUQLadder(construction=construction)  # type: ignore[arg-type]
    vector = torch.randn(200_000, generator=generator_for(0))
    if tails:
        vector = vector * torch.rand(200_000, generator=generator_for(1)) ** (-1 / tails)
    levels = ladder.levels(vector)
    steps = levels._steps  # type: ignore[attr-defined]
    for level in (2, 3, 4):
        payload = levels.increment(level)
        assert isinstance(payload, CodesPayload)
        assert isinstance(payload.codebook, Table)
        upper, lower = steps[level - 1], steps[level - 2]
        expected = dense(upper) - dense(lower)
        torch.testing.assert_close(dense(received(payload)), expected, rtol=0, atol=1e-5)
        assert len(payload.codebook.entries) == len(set(payload.codes.tolist()))
        ideal = entropy_bits(codes_of(upper) * (1 << 20) + codes_of(lower)) / 8
        frame = len(encode(Message({"vector": payload})))
        separate = SumPayload((upper, lower.scaled(-1.0)))
        assert ideal < frame < 1.03 * ideal
        assert frame < 0.8 * len(encode(Message({"vector": separate})))


def test_short_vectors_keep_two_codes() -> None:
    levels = ECUQLadder().levels(SPREAD)
    assert isinstance(levels.increment(3), SumPayload)
    assert isinstance(levels.increment(5), DensePayload)


def test_float64_that_float32_does_not_hold() -> None:
    """Behind its base the vector is zero in float32, and the top adds it."""
    vector = torch.tensor([1e10, 1e-200, -1e-60], dtype=torch.float64)
    for construction in ("identity", "unbiased"):
        ladder = ECUQLadder(construction=construction)
        estimator = MLMC(ladder=ladder, law=CostAwareLaw(), base=TopK(k=1))
        sent = dense(estimator.compress(vector, generator=generator_for(0)))
        assert float(sent[0]) == 1e10
        assert bool(torch.isfinite(sent).all())
        if construction == "identity":
            assert torch.equal(sent, vector)
    small = ECUQ(bits=2).compress(vector[1:], generator=generator_for(0))
    assert isinstance(small, ZeroPayload)


@pytest.mark.parametrize("bits", [1, 2, 4, 9])
@pytest.mark.parametrize("kind", ["normal", "heavy", "few"])
def test_the_search_in_one_histogram_keeps_the_budget(
    bits: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = torch.randn(150_000, generator=generator_for(0))
    if kind == "heavy":
        vector = vector / torch.rand(150_000, generator=generator_for(1))
    elif kind == "few":
        vector = vector.round().clamp(-1, 1)
    passes = []

    def counted(*args: object) -> object:
        passes.append(args)
        return nearest_counts(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(quantization, "nearest_counts", counted)
    entropies = []
    for many in (1 << 17, 1 << 30):  # with the histogram, and without
        monkeypatch.setattr(quantization, "_MANY", many)
        payload = ECUQ(bits=bits).compress(vector, generator=generator_for(0))
        entropies.append(entropy_bits(codes_of(payload)) / len(vector))
        if many == 1 << 17 and kind == "normal":
            assert 2 <= len(passes) <= 3
    assert max(entropies) <= bits
    assert entropies[0] == pytest.approx(entropies[1], abs=0.1)


def test_constructions_are_checked() -> None:
    with pytest.raises(ValueError, match="construction is 'nested': choose 'identity' or"):
        ECUQLadder(construction="nested")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"budgets are \(\)"):
        ECUQLadder(budgets=())
