"""Top-k and Rand-k in one message."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.compressors import Compressor, Induced, RandK, TopK, TopRand
from mlmc_ray.compressors import top_rand as module
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.payloads import Message, SeededSparsePayload, SparsePayload, SumPayload
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import encode
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

SOME = settings(max_examples=40, deadline=None)


def outcomes(compressor: TopRand, vector: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return what is sent for every subset of ranks that could be drawn."""
    dim = len(vector)
    num_top, num_random = compressor._counts(dim)
    results = []
    for ranks in itertools.combinations(range(dim - num_top), num_random):
        drawn = np.array(ranks, dtype=np.int64)
        monkeypatch.setattr(module, "random_subset", lambda seed, size, k, drawn=drawn: drawn)
        results.append(dense(received(compressor.with_seed(vector, 0))))
    return results


def exact_variance(compressor: TopRand, vector: Tensor) -> float:
    num_top, num_random = compressor._counts(len(vector))
    rest = vector.double().square().sort().values[: len(vector) - num_top].sum()
    return ((len(vector) - num_top) / num_random - 1) * float(rest)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8, 20, 0.4])
@pytest.mark.parametrize("top_share", [0.1, 0.5, 0.9])
def test_mean_and_variance_over_all_subsets(
    k: float, top_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressor = TopRand(k=k, top_share=top_share)
    for vector in (GOLDEN, torch.ones(6), torch.tensor([0.0, 2.0, 0.0])):
        sent = torch.stack(outcomes(compressor, vector, monkeypatch))
        torch.testing.assert_close(sent.mean(dim=0), vector.double(), rtol=1e-6, atol=1e-6)
        variance = float((sent - vector).square().sum(dim=1).mean())
        energy = float(vector.double().square().sum())
        assert variance == pytest.approx(exact_variance(compressor, vector), rel=1e-6, abs=1e-6)
        assert variance <= compressor.omega(len(vector)) * energy * (1 + 1e-6) + 1e-6
        induced = Induced(contractive=TopK(k=4), correction=RandK(k=4)).omega(8)
        assert induced is not None
        assert TopRand(k=8).omega(8) <= induced


def test_the_bound_is_attained_by_equal_magnitudes() -> None:
    for dim, k in ((8, 4), (100, 7), (5, 5)):
        bound = TopRand(k=k).omega(dim)
        assert exact_variance(TopRand(k=k), torch.ones(dim)) == pytest.approx(bound * dim)
    assert TopRand(k=8).omega(8) == 0
    assert TopRand(k=4).omega(8) == pytest.approx((6 / 2 - 1) * (1 - 2 / 8))
    assert TopRand(k=1).omega(8) == 7  # Rand-1
    compressor: Compressor = TopRand(k=4)
    assert (compressor.unbiased, compressor.alpha(8)) == (True, None)


@given(vector=vectors(max_dim=60, widest=20), seed=st.integers(0, 1 << 62))
@example(vector=torch.arange(1.0, 9.0), seed=3)
@SOME
def test_the_largest_come_as_they_are_and_the_others_scaled(vector: Tensor, seed: int) -> None:
    compressor, dim = TopRand(k=0.4), len(vector)
    num_top, num_random = compressor._counts(dim)
    top = dense(TopK(k=num_top).compress(vector, generator=generator_for(0))) if num_top else None
    for limit in (-1, math.inf):  # a seed wherever it can be, and nowhere
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_SEED_BITS", limit)
            sent = dense(received(compressor.with_seed(vector, seed)))
        largest = torch.zeros(dim, dtype=torch.bool) if top is None else top != 0
        assert torch.equal(sent[largest], vector.double()[largest])
        others = (sent != 0) & ~largest
        scaled = vector.double() * ((dim - num_top) / num_random)
        torch.testing.assert_close(sent[others], scaled[others], rtol=1e-6, atol=0)
        assert int(others.sum()) <= num_random


DELTA = 1e-9  # a correct draw fails the next test with at most this probability


def test_a_seed_draws_uniform_subsets_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEED_BITS", -1)
    n, compressor, vector = 13_000, TopRand(k=4), torch.arange(1.0, 9.0)
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(n):
        payload = compressor.with_seed(vector, seed)
        if isinstance(payload, SumPayload):
            sparse, seeded = payload.parts
            assert isinstance(sparse, SparsePayload)
            num_values = len(sparse.values)
        else:
            seeded, num_values = payload, 0
        assert isinstance(seeded, SeededSparsePayload)
        assert num_values + len(seeded.values) == 4  # none is sent twice
        drawn = dense(payload)[:6].nonzero().flatten().tolist()
        counts[tuple(drawn)] += 1
    pairs = list(itertools.combinations(range(6), 2))
    assert set(counts) == set(pairs)
    margin = math.sqrt(math.log(2 * len(pairs) / DELTA) / (2 * n))  # Hoeffding, union over pairs
    assert margin < 0.033  # of a probability of 0.067: a pair at twice that is caught
    for pair in pairs:
        assert abs(counts[pair] / n - 1 / 15) <= margin, pair


def test_the_shortest_message_is_sent() -> None:
    vector = torch.randn(100_000, generator=generator_for(0))

    def size(compressor: Compressor) -> int:
        payload = compressor.compress(vector, generator=generator_for(0))
        return len(encode(Message({"vector": payload})))

    seeded, separate = TopRand(k=1000), Induced(contractive=TopK(k=500), correction=RandK(k=500))
    assert size(seeded) < size(separate)
    assert size(seeded) < 0.92 * size(TopK(k=1000))  # the indices of one half are not sent
    assert size(TopRand(k=8)) == pytest.approx(size(TopK(k=8)), abs=4)  # one sparse payload
    assert size(TopRand(k=0.6)) == pytest.approx(size(TopK(k=0.6)), rel=1e-3)


def test_nothing_but_a_seed_where_none_is_the_largest() -> None:
    compressor = TopRand(k=100, top_share=0.001)
    payload = compressor.compress(torch.ones(10_000), generator=generator_for(0))
    assert isinstance(payload, SeededSparsePayload)
    assert compressor.omega(10_000) == RandK(k=100).omega(10_000)


def test_half_precision_is_not_overflown_and_single_precision_is_refused() -> None:
    half = torch.full((1000,), 3e4, dtype=torch.float16)
    sent = dense(received(TopRand(k=10).compress(half, generator=generator_for(0))))
    assert float(sent.max()) == pytest.approx(3e4 * 995 / 5, rel=1e-3)
    with pytest.raises(NonFiniteError):
        TopRand(k=10).compress(torch.full((1000,), 3e38), generator=generator_for(0))


def test_fields_are_checked_and_the_cost_is_that_of_the_paper() -> None:
    for share in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"top_share is {share}: give a part"):
            TopRand(k=2, top_share=share)
    with pytest.raises(ValueError, match="k is 0:"):
        TopRand(k=0)
    assert TopRand(k=0.1).paper_cost(1000).bits == 6400
