"""Levels above thresholds: the mean over levels and over the rounding, both enumerated."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from mlmc_ray.compressors import QSGD, SharedThresholds, TernGrad, TopK
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.estimator import MLMC, AdaptiveLaw, CostAwareLaw, GivenLaw, LevelLaw
from mlmc_ray.ladders import ThresholdLadder, thresholds
from mlmc_ray.payloads import CodesPayload, Message, ScatteredPayload, ZeroPayload
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation
from mlmc_ray.wire import encode
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

FEW = settings(max_examples=12, deadline=None)
SOME = settings(max_examples=30, deadline=None)
LADDERS = [
    ThresholdLadder(steps=1),
    ThresholdLadder(steps=5),
    ThresholdLadder(steps=64),
    ThresholdLadder(),
    ThresholdLadder(steps=8, rms=0.3),
    ThresholdLadder(steps=3, rms=1.2),
    ThresholdLadder(steps=16, rms=100.0),
]
EVERY_LADDER = pytest.mark.parametrize("ladder", LADDERS, ids=str)
ADVERSARIAL = {
    "zero": torch.zeros(4),
    "one entry": torch.tensor([-0.3]),
    "equal": torch.full((7,), 0.1),
    "ties": torch.tensor([1.0, -1.0, 0.0, 1.0, 2.0, -2.0, -0.0, 1.0]),
    "subnormal": torch.tensor([1e-45, -1.2e-38, 3e-39, 0.0]),
    "least": torch.tensor([2.0**-149, 0.0]),
    "huge": torch.tensor([1e37, -3e36, 1.0, 1e-30]),
    "wide": torch.tensor([2.0**100, -3.0, 2.0**-100, 0.0]),
}
LAWS: list[LevelLaw] = [AdaptiveLaw(), CostAwareLaw()]


def uniform(ladder: ThresholdLadder) -> GivenLaw:
    return GivenLaw((1 / ladder.steps,) * ladder.steps)


def rounded(ladder: ThresholdLadder, vector: Tensor, generator: Generator | None = None) -> Tensor:
    """Return h q sgn(v), added up from the base and all increments."""
    levels = ladder.levels(vector, generator=generator)
    base = levels.base()
    total = torch.zeros(len(vector), dtype=torch.float64)
    for payload in [base] if base is not None else []:
        total += dense(payload)
    for level in range(1, len(levels) + 1):
        total += dense(levels.increment(level))
    return total


def step_of(ladder: ThresholdLadder, vector: Tensor) -> float:
    """Return h, not yet rounded to float32."""
    peak = float(vector.abs().max())
    mean_square = float(vector.double().square().mean())
    reach = math.inf if ladder.rms is None else ladder.rms * math.sqrt(mean_square)
    return min(peak, reach) / ladder.steps


def given_rounding(
    estimator: MLMC, vector: Tensor, *, decoded: bool = True
) -> tuple[Tensor, float]:
    """Return the mean over levels of what the server decodes, and E|C(v) - v|^2."""
    law = estimator.probabilities(vector).tolist()
    drawn = [([level], p) for level, p in enumerate(law, start=1) if p > 0] or [([], 1.0)]
    mean, error = torch.zeros(len(vector), dtype=torch.float64), 0.0
    for levels, p in drawn:
        payload = estimator.at_levels(vector, levels)
        sent = dense(received(payload) if decoded else payload)
        mean += p * sent
        error += p * float((sent - vector).square().sum())
    return mean, error


def all_roundings(
    monkeypatch: pytest.MonkeyPatch, ladder: ThresholdLadder, vector: Tensor
) -> Iterator[float]:
    """Yield the probability of every rounding, which is then that of all ladders."""
    h = float(ladder.levels(vector)._step)  # type: ignore[attr-defined]
    heights = (vector.double().abs() / h).tolist()
    for ups in itertools.product((0, 1), repeat=len(vector)):
        chance, codes = 1.0, []
        for height, up, sign in zip(heights, ups, vector.sign().tolist(), strict=True):
            chance *= height % 1 if up else 1 - height % 1
            codes.append(int(sign) * (math.floor(height) + up))
        if chance:
            drawn = torch.tensor(codes, dtype=torch.int16)
            monkeypatch.setattr(thresholds, "linear_codes", lambda *_, drawn=drawn: drawn)
            yield chance
            monkeypatch.undo()


SMALL = torch.tensor([0.7, -2.0, 0.0, 1.1, -0.05, 0.31])


@pytest.mark.parametrize(
    "ladder",
    [
        ThresholdLadder(steps=1),
        ThresholdLadder(steps=3),
        ThresholdLadder(steps=7),
        ThresholdLadder(steps=4, rms=1.5),
        ThresholdLadder(steps=4, rms=0.6),
    ],
    ids=str,
)
def test_mean_and_variance_over_levels_and_rounding(
    ladder: ThresholdLadder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With equal probabilities the variance is that of rounding to multiples of L h."""
    laws = [*LAWS, uniform(ladder)]
    means, errors = torch.zeros(3, len(SMALL), dtype=torch.float64), [0.0] * 3
    for chance in all_roundings(monkeypatch, ladder, SMALL):
        for i, law in enumerate(laws):
            mean, error = given_rounding(MLMC(ladder=ladder, law=law), SMALL, decoded=False)
            means[i] += chance * mean
            errors[i] += chance * error
    torch.testing.assert_close(means, SMALL.double().expand(3, -1), rtol=0, atol=1e-6)
    long = ladder.steps * step_of(ladder, SMALL)
    fraction = (SMALL.double().abs() / long) % 1
    assert errors[2] == pytest.approx(float((fraction - fraction**2).sum()) * long**2, rel=1e-5)
    assert errors[0] <= errors[2] * (1 + 1e-9)
    omega = MLMC(ladder=ladder).omega(len(SMALL))
    assert omega is not None
    assert errors[2] <= (omega + 1e-6) * float(SMALL.double().square().sum())


@EVERY_LADDER
@given(vector=vectors(widest=30))
@example(vector=GOLDEN)
@FEW
def test_given_the_rounding_the_mean_is_what_was_rounded(
    ladder: ThresholdLadder, vector: Tensor
) -> None:
    if ladder.steps > 64:
        ladder = ThresholdLadder(steps=100)
    total, before = rounded(ladder, vector), vector.clone()
    for law in LAWS:
        estimator = MLMC(ladder=ladder, law=law)
        mean, error = given_rounding(estimator, vector)
        size = float(total.abs().max()) * math.sqrt(len(vector))
        torch.testing.assert_close(mean, total, rtol=0, atol=1e-6 * size + 2.0**-133)
        variance = estimator.variance(vector)
        assert variance == pytest.approx(error, rel=1e-5, abs=1e-5 * size**2)
    assert torch.equal(vector, before)


@EVERY_LADDER
@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_increments_add_up_to_a_rounding_of_any_vector(ladder: ThresholdLadder, kind: str) -> None:
    vector = ADVERSARIAL[kind]
    total = rounded(ladder, vector)
    h = float(ladder.levels(vector)._step)  # type: ignore[attr-defined]
    margin = h * (1 + 1e-6) + 1e-6 * float(vector.abs().max())
    assert bool(((total - vector.double()).abs() <= margin).all())
    assert bool((total[vector == 0] == 0).all())
    if h:
        multiples = total / h
        torch.testing.assert_close(multiples, multiples.round(), rtol=1e-6, atol=0)


@EVERY_LADDER
def test_the_rounding_has_the_vector_as_its_mean(ladder: ThresholdLadder) -> None:
    """Over seeds; each is within h, so that 3000 of them are within 0.1 h, but for 1e-9 or so."""
    vector, n = torch.tensor([0.75, -2.0, 0.3, 0.01]), 3000
    total = torch.zeros(4, dtype=torch.float64)
    steps = ladder if ladder.steps <= 64 else ThresholdLadder(steps=32)
    for seed in range(n):
        levels = steps.levels(vector, generator=generator_for(seed))
        total += levels._codes.double() * levels._step  # type: ignore[attr-defined]
    margin = step_of(steps, vector) * math.sqrt(math.log(8e9) / (2 * n))  # Hoeffding
    assert bool(((total / n - vector).abs() <= margin).all())


@given(vector=vectors(widest=12), level=st.integers(1, 20))
@SOME
def test_a_level_is_top_k_with_a_drawn_k(vector: Tensor, level: int) -> None:
    """All above the threshold are in it, and none a step below."""
    sent = dense(ThresholdLadder(steps=20).levels(vector).increment(level))
    there, step = sent != 0, float(sent.abs().max())
    assert torch.equal(sent[there].sign(), vector.double()[there].sign())
    if there.any():
        magnitudes = vector.double().abs()
        assert bool((magnitudes[there] >= (20 - level) * step * (1 - 1e-6)).all())
        assert bool((magnitudes[~there] <= (21 - level) * step * (1 + 1e-6)).all())


@EVERY_LADDER
@given(vector=vectors(widest=20))
@SOME
def test_norms_and_sizes_grow_and_are_those_of_the_increments(
    ladder: ThresholdLadder, vector: Tensor
) -> None:
    levels = ladder.levels(vector)
    norms, costs = levels.norms(), levels.costs()
    assert norms.dtype == costs.dtype == torch.float64
    assert len(norms) == len(costs) == len(levels) == ladder.steps
    assert bool((norms.diff() >= 0).all())
    assert bool((costs > 0).all())
    for level in {1, ladder.steps // 2, ladder.steps} - {0}:
        expected = float(dense(levels.increment(level)).norm())
        assert float(norms[level - 1]) == pytest.approx(expected, rel=1e-12)


def test_golden() -> None:
    """GOLDEN over 4 is 1 in the second entry, and all are whole steps of 1 / 2."""
    levels = ThresholdLadder(steps=8).levels(GOLDEN)
    assert levels.base() is None
    sizes = [1, 1, 2, 2, 3, 3, 5, 6]
    assert levels.norms().tolist() == pytest.approx([math.sqrt(n) / 2 for n in sizes])
    third = levels.increment(3)
    assert isinstance(third, ScatteredPayload)
    assert isinstance(third.inner, CodesPayload)
    assert (third.indices.tolist(), third.inner.codes.tolist()) == ([0, 1], [1, -1])
    assert MLMC(ladder=ThresholdLadder(steps=8)).variance(GOLDEN) == pytest.approx(
        (sum(map(math.sqrt, sizes)) / 2) ** 2 - 31.25
    )


def test_the_base_is_whole_multiples() -> None:
    vector = torch.tensor([4.8, -2.3, 0.6, -1.1, 0.0])
    ladder = ThresholdLadder(steps=4, rms=1 / math.sqrt(float(vector.square().mean())))
    levels = ladder.levels(vector)
    base = levels.base()
    assert isinstance(base, ScatteredPayload)
    assert isinstance(base.inner, CodesPayload)
    assert float(base.inner.scales) == pytest.approx(1)  # L h is
    assert (base.indices.tolist(), base.inner.codes.tolist()) == ([0, 1, 3], [4, -2, -1])
    rest = rounded(ladder, vector) - dense(base)
    assert rest.abs().tolist() == pytest.approx([0.8, 0.3, 0.6, 0.1, 0], abs=0.25)
    assert levels.norms()[0] == 0  # no rest has 4 steps of 4


def test_one_step_is_terngrad() -> None:
    vector = torch.randn(500, generator=generator_for(3))
    ladder = ThresholdLadder(steps=1)
    assert ladder.omega(100) == TernGrad().omega(100) == 4.5
    variances = [
        MLMC(ladder=ladder).variance(vector, generator=generator_for(seed)) for seed in range(300)
    ]
    peak, energy = float(vector.abs().max()), float(vector.double().square().sum())
    expected = peak * float(vector.double().abs().sum()) - energy
    assert sum(variances) / 300 == pytest.approx(expected, rel=0.01)


def test_bounds() -> None:
    for c in (0.5, 2.0, 7.0):
        assert ThresholdLadder(rms=c).omega(50) == SharedThresholds(rms=c).omega(50)
        assert ThresholdLadder(steps=1, rms=c).top_omega(50) == min(c, c * c / 4)
    assert ThresholdLadder(steps=10).top_omega(100) == min(1.0, 0.25)
    assert ThresholdLadder(steps=2).top_omega(100) == 5
    assert ThresholdLadder().top_omega(100) < 0.01
    draws = MLMC(ladder=ThresholdLadder(steps=10), draws=2).omega(100)
    assert draws == 4.5 / 2 + 0.25 / 2


@EVERY_LADDER
def test_the_adaptive_law_keeps_the_norm(ladder: ThresholdLadder) -> None:
    """That of what follows the base is sum_l h sqrt(n_l), whatever the level."""
    vector = torch.randn(300, generator=generator_for(1)) ** 3
    estimator = MLMC(ladder=ladder)
    levels = ladder.levels(vector)
    base, norms = levels.base(), levels.norms()
    for level in {int(norms.nonzero()[0]) + 1, ladder.steps}:
        sent = dense(estimator.at_level(vector, level))
        rest = sent if base is None else sent - dense(base)
        assert float(rest.norm()) == pytest.approx(float(norms.sum()), rel=1e-5)


def test_a_law_by_cost_needs_fewer_bits_for_its_second_moment() -> None:
    vector = torch.randn(20_000, generator=generator_for(1)) ** 3
    merits = []
    for law in (AdaptiveLaw(), CostAwareLaw()):
        estimator = MLMC(ladder=ThresholdLadder(steps=64), law=law)
        bytes_ = sum(
            p * len(encode(Message({"v": estimator.at_level(vector, level)})))
            for level, p in enumerate(estimator.probabilities(vector).tolist(), start=1)
        )
        energy = float(vector.double().square().sum())
        merits.append(bytes_ * 8 / len(vector) * (1 + estimator.variance(vector) / energy))
    assert merits[1] < 0.8 * merits[0]


def test_costs_are_near_the_sizes_of_frames() -> None:
    """Of entries whose order says nothing; frames count no gaps that are alike."""
    vector = torch.randn(30_000, generator=generator_for(2))
    levels = ThresholdLadder(steps=32).levels(vector)
    for level in (8, 20, 28, 32):
        frame = encode(Message({"v": levels.increment(level)}))
        assert float(levels.costs()[level - 1]) == pytest.approx(8 * len(frame), rel=0.1)


def test_the_same_generator_gives_the_same_levels() -> None:
    vector, ladder = torch.randn(200, generator=generator_for(4)), ThresholdLadder(steps=3)
    first, second, other = (rounded(ladder, vector, generator_for(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(ladder.levels(vector).norms(), ladder.levels(vector).norms())


@pytest.mark.parametrize("base", [TopK(k=2), QSGD(levels=2, bucket_size=4)])
def test_other_bases_and_truncation(base: TopK | QSGD) -> None:
    ladder = ThresholdLadder(steps=6)
    estimator = MLMC(ladder=ladder, base=base, draws=2)
    for seed in range(5):
        sent = estimator.compress(GOLDEN, generator=generator_for(seed))
        assert bool(torch.isfinite(dense(received(sent))).all())
    truncated = RandomTruncation(ladder=ladder)
    law = truncated.probabilities(GOLDEN).tolist()
    mean = torch.stack(
        [p * dense(truncated.at_level(GOLDEN, n)) for n, p in enumerate(law, start=1) if p > 0]
    ).sum(dim=0)
    torch.testing.assert_close(mean, rounded(ladder, GOLDEN), rtol=0, atol=2e-6)


def test_levels_without_entries_say_nothing() -> None:
    vector = torch.tensor([1.0, 0.001])
    levels = ThresholdLadder(steps=4, rms=0.1).levels(vector)
    assert isinstance(levels.increment(1), ZeroPayload)
    for level in (0, 5):
        with pytest.raises(ValueError, match=f"level is {level}: .* levels 1 to 4"):
            levels.increment(level)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": 0}, "steps is 0: give"),
        ({"steps": 65_537}, "steps is 65537: give"),
        ({"steps": 1.5}, r"steps is 1\.5: give"),
        ({"rms": 0.0}, r"rms is 0\.0: give a positive"),
        ({"rms": math.inf}, "rms is inf: give"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ThresholdLadder(**options)  # type: ignore[arg-type]


def test_vectors_with_too_many_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rms is 1e-08, steps is 1024: .* give a larger rms"):
        ThresholdLadder(rms=1e-8).levels(GOLDEN)
    vector = torch.tensor([3.4e38] + [1.5e38] * 99)
    with pytest.raises(NonFiniteError, match="may become infinite"):
        MLMC(ladder=ThresholdLadder(steps=2)).at_level(vector, 1)
