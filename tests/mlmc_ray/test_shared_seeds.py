"""Compressors within others that draw from the workers' seed: means, spread, agreement."""

import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields

import pytest
import torch
from torch import Generator, Tensor

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors import (
    Compressor,
    Context,
    Induced,
    Lazy,
    PerBucket,
    PerLayer,
    PermK,
    PowerSGD,
    SharedDirections,
    SharedThresholds,
    TopK,
    bound,
)
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import Ladder, RefinementLadder, TopKLadder
from mlmc_ray.payloads import Payload, ZeroPayload
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation
from tests.mlmc_ray.cases import dense

VECTOR = torch.tensor([1, -0.5, 0.3, 0.2, 0.7, -0.1, 0.05, 0.4])
WORKERS, ROUNDS = 4, 400


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnBlock:
    """A biased perm-k: it sends its block as it is, so that what it leaves has none of it."""

    inner: PermK = field(default_factory=PermK)

    unbiased = False

    def bind(self, context: Context) -> "OwnBlock":
        return OwnBlock(inner=self.inner.bind(context))

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        return self.inner.compress(vector, generator=generator).scaled(1 / self.inner.num_workers)

    def omega(self, dim: int) -> None:
        return None

    def alpha(self, dim: int) -> float:
        return 1 / self.inner.num_workers

    def paper_cost(self, dim: int) -> None:
        return None


DRAWING: dict[str, Compressor] = {
    "perm-k": PermK(),
    "shared-thresholds": SharedThresholds(peak=1.0, block=4, coordinated=True),
    "shared-directions": SharedDirections(peak=1.0, group_size=4, bits=4, coordinated=True),
    "mlmc": MLMC(ladder=TopKLadder(), coordinated=True),
    "random-truncation": RandomTruncation(ladder=TopKLadder(), coordinated=True),
}
"""What draws from the seed that workers share."""


def refinement(top: Compressor) -> Ladder:
    return RefinementLadder(compressor=OwnBlock(), steps=2, top=top)


WRAPPED: dict[str, list[Callable[[Compressor], Compressor]]] = {
    "induced": [
        lambda inner: Induced(contractive=inner, correction=inner),
        lambda inner: Induced(contractive=OwnBlock(), correction=inner),
    ],
    "lazy": [lambda inner: Lazy(compressor=inner, p=0.5)],
    "per-layer": [lambda inner: PerLayer(compressor=inner)],
    "per-bucket": [lambda inner: PerBucket(compressor=inner, bucket_size=3)],
    "mlmc": [
        lambda inner: MLMC(ladder=TopKLadder(), base=inner, coordinated=True),
        lambda inner: MLMC(ladder=refinement(inner), base=inner),
        lambda inner: MLMC(ladder=refinement(inner)),
    ],
    "random-truncation": [
        lambda inner: RandomTruncation(ladder=refinement(inner), coordinated=True),
        lambda inner: RandomTruncation(ladder=refinement(inner)),
    ],
}
"""Every compressor made of others, around one."""


def here(worker_id: int, seed: int, num_workers: int = WORKERS) -> Context:
    return Context(generator_for(seed, worker_id), seed, worker_id, num_workers, layer_sizes=(4, 4))


def sent(compressor: Compressor, vector: Tensor, context: Context) -> Tensor:
    payload = bound(compressor, context).compress(vector, generator=context.generator)
    return dense(payload)


def holds(hint: object, kind: type) -> bool:
    return hint is kind or any(holds(part, kind) for part in typing.get_args(hint))


def test_every_compressor_made_of_others_is_among_them() -> None:
    made_of_others = {
        name
        for name, kind in KINDS[Compressor].items()
        for hint in typing.get_type_hints(kind).values()
        if holds(hint, Compressor) or holds(hint, Ladder)
    }
    assert made_of_others == WRAPPED.keys()


def test_every_compressor_with_coordinated_draws_is_among_them() -> None:
    coordinated = {
        name
        for name, kind in KINDS[Compressor].items()
        if any(each.name == "coordinated" for each in fields(kind))
    }
    assert coordinated | {"perm-k"} == DRAWING.keys()


def cases() -> Iterator[object]:
    """All around perm-k, and induced compression of all; the others are like those."""
    for name, kinds in WRAPPED.items():
        for i, wrap in enumerate(kinds):
            for inner, compressor in DRAWING.items():
                alike = inner != "perm-k" and (name, i) != ("induced", 0)
                marks = [pytest.mark.slow] if alike else []
                yield pytest.param(wrap(compressor), id=f"{name}{i}-{inner}", marks=marks)


@pytest.mark.parametrize("compressor", list(cases()))
def test_the_mean_of_a_worker_is_the_vector(compressor: Compressor) -> None:
    """Within 6 standard errors: for 400 entries in all a normal mean fails with 1e-6 or so.

    With one seed for both, what the second compressor is given would depend on its draws.
    """
    rounds = torch.stack([sent(compressor, VECTOR, here(1, seed)) for seed in range(ROUNDS)])
    error = (rounds.mean(dim=0) - VECTOR).abs()
    standard = rounds.std(dim=0) / ROUNDS**0.5
    assert bool((error <= 6 * standard + 1e-6).all()), error / standard


def test_a_correction_is_unbiased_whatever_is_left_out() -> None:
    """In the squares of all entries: off is a multiple of chi-square, of at most 8 degrees."""
    thresholds = DRAWING["shared-thresholds"]
    induced = Induced(contractive=thresholds, correction=thresholds)
    rounds = torch.stack([sent(induced, VECTOR, here(0, seed)) for seed in range(4 * ROUNDS)])
    off = float((rounds.mean(dim=0) - VECTOR).square().sum())
    noise = float(rounds.var(dim=0).sum()) / len(rounds)
    assert off < 4 * noise


# What is shared stays shared.


@pytest.mark.parametrize(
    "compressor",
    [
        PerLayer(compressor=PermK()),
        PerBucket(compressor=PermK(), bucket_size=3),
        PerBucket(compressor=PerLayer(compressor=PermK()), bucket_size=5),
        Induced(contractive=TopK(k=1), correction=PermK()),
    ],
    ids=str,
)
def test_workers_still_share_out_the_entries(compressor: Compressor) -> None:
    for seed in range(20):
        mean = sum(sent(compressor, VECTOR, here(i, seed)) for i in range(WORKERS)) / WORKERS
        torch.testing.assert_close(mean, VECTOR.double(), rtol=1e-6, atol=1e-7)


def test_steps_and_top_have_seeds_of_their_own_and_the_same_for_all_workers() -> None:
    ladder = RefinementLadder(compressor=PowerSGD(rank=1), steps=3, top=PermK())
    seeds = []
    for worker_id in (0, 3):
        own = ladder.bind(here(worker_id, 7))
        assert own.bind(here(worker_id, 7)) == own
        assert isinstance(own.top, PermK)
        steps = [step.seed for step in own.step_compressors if isinstance(step, PowerSGD)]
        seeds.append([*steps, own.top.seed])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 4
    same = RefinementLadder(compressor=TopK(k=1), steps=2)
    assert same.bind(here(0, 7)) is same


def test_every_step_contracts() -> None:
    """A block of one entry in 8 each, so that (7 / 8)^4 = 0.586 is left of 8 equal entries.

    From one seed all steps would send the same entry, and 7 / 8 would be left.
    """
    ladder = RefinementLadder(compressor=OwnBlock(), steps=4)
    left = 0.0
    for seed in range(ROUNDS):
        levels = ladder.bind(here(2, seed, num_workers=8)).levels(torch.ones(8))
        left += float(levels.norms()[-1] ** 2) / 8 / ROUNDS
    assert left == pytest.approx((7 / 8) ** 4, abs=0.025)  # 5 standard errors of at most 0.005
    assert ladder.omega(8) is not None


@pytest.mark.parametrize("kind", ["per-layer", pytest.param("per-bucket", marks=pytest.mark.slow)])
def test_parts_of_one_size_draw_apart(kind: str) -> None:
    """Norms of 64 parts vary as those of independent draws; with one seed for all, 8 times more."""
    parts, size = 64, 16
    vector = torch.rand(size, generator=generator_for(0)).repeat(parts)
    spread = []
    for coordinated in (True, False):
        inner = SharedThresholds(peak=16.0, block=size, coordinated=coordinated)
        outer: Compressor = PerBucket(compressor=inner, bucket_size=size)
        if kind == "per-layer":
            outer = PerLayer(compressor=inner)
        norms = []
        for seed in range(50):
            context = Context(generator_for(seed), seed, 1, WORKERS, layer_sizes=(size,) * parts)
            norms.append(sent(outer, vector, context).norm())
        values = torch.stack(norms)
        spread.append(float(values.std() / values.mean()))
    assert spread[0] < 2 * spread[1]


def test_buckets_of_zeros_and_unbound_ones() -> None:
    buckets = PerBucket(compressor=PermK(), bucket_size=3)
    assert buckets.context is None
    payload = bound(buckets, here(0, 1)).compress(torch.zeros(8), generator=generator_for(0))
    assert isinstance(payload, ZeroPayload)
    assert bound(buckets, here(0, 1)).omega(8) == WORKERS / (WORKERS // 3) - 1
    assert buckets.omega(8) == 0
