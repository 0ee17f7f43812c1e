import dataclasses
import math
import subprocess
import sys
import warnings
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors import (
    DRIVE,
    ECUQ,
    EDEN,
    QSGD,
    AdaptiveRandom,
    Bernoulli,
    Compressor,
    Context,
    FixedPoint,
    FloatingPoint,
    Identity,
    ImportanceSampled,
    Induced,
    Lazy,
    PerBucket,
    PerLayer,
    PermK,
    PowerSGD,
    RandK,
    RandomSparse,
    SegmentedTopK,
    SparseDithering,
    StandardDithering,
    TernGrad,
    TopK,
    TopKDithering,
    TopRand,
    UnbiasedRounding,
    bound,
)
from mlmc_ray.errors import NonFiniteError, ProblemError
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import TopKLadder
from mlmc_ray.payloads import DensePayload, Message, SeededSparsePayload, ZeroPayload
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation
from mlmc_ray.wire import encode
from tests.mlmc_ray.cases import ALL_COMPRESSORS, GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

EVERY_COMPRESSOR = pytest.mark.parametrize("compressor", ALL_COMPRESSORS, ids=str)
FEW = settings(max_examples=12)
SOME = settings(max_examples=50)


def compressed(compressor: Compressor, vector: Tensor) -> Tensor:
    return dense(compressor.compress(vector, generator=generator_for(0)))


def squared(vector: Tensor) -> float:
    return float(vector.double().square().sum())


def test_the_list_is_complete() -> None:
    assert {type(compressor) for compressor in ALL_COMPRESSORS} == set(KINDS[Compressor].values())


@EVERY_COMPRESSOR
def test_it_is_a_value(compressor: Any) -> None:
    twin = dataclasses.replace(compressor)
    assert twin == compressor
    assert hash(twin) == hash(compressor)  # so it is frozen
    assert isinstance(compressor, Compressor)
    cost = compressor.paper_cost(1000)
    assert cost is None or cost.bits > 0


@EVERY_COMPRESSOR
def test_zero_is_compressed_to_zero(compressor: Compressor) -> None:
    for dim in (1, 5):
        payload = compressor.compress(torch.zeros(dim), generator=generator_for(0))
        assert payload.dim == dim
        assert not payload.to_dense().any()
        assert isinstance(payload, ZeroPayload) or isinstance(compressor, Identity | PerBucket)


@EVERY_COMPRESSOR
def test_what_is_not_finite_is_refused(compressor: Compressor) -> None:
    for bad in (math.nan, math.inf, -math.inf):
        vector = torch.tensor([1.0, 0.0, bad, bad])
        with pytest.raises(NonFiniteError, match=f"2 of 4 entries .* entry 2 \\({bad}\\)"):
            compressor.compress(vector, generator=generator_for(0))


@EVERY_COMPRESSOR
@given(vector=vectors(widest=30))
@FEW
def test_the_receiver_gets_the_same_vector(compressor: Compressor, vector: Tensor) -> None:
    payload = compressor.compress(vector, generator=generator_for(0))
    assert payload.dim == len(vector)
    assert torch.equal(dense(received(payload)), dense(payload))
    assert torch.equal(received(payload).to_dense(), payload.to_dense())


@EVERY_COMPRESSOR
@given(vector=vectors(widest=30))
@FEW
def test_the_input_is_not_modified(compressor: Compressor, vector: Tensor) -> None:
    before = vector.clone()
    compressor.compress(vector, generator=generator_for(0))
    assert torch.equal(vector, before)


@EVERY_COMPRESSOR
@given(vector=vectors(widest=30))
@FEW
def test_the_same_entries_and_draws_give_the_same_payload(
    compressor: Compressor, vector: Tensor
) -> None:
    assert torch.equal(compressed(compressor, vector), compressed(compressor, vector.clone()))


@EVERY_COMPRESSOR
def test_every_float_dtype_is_compressed(compressor: Compressor) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        vector = torch.tensor([1.0, -0.5, 0.0, 2.0, -3.0, 0.25, 0.0, 1.5]).to(dtype)
        single = compressor.compress(vector.float(), generator=generator_for(1))
        payload = compressor.compress(vector, generator=generator_for(1))
        assert payload.dim == 8
        got = dense(received(payload))
        assert bool(torch.isfinite(got).all()), dtype
        if not compressor.unbiased:  # what draws may draw otherwise for another dtype
            torch.testing.assert_close(got, dense(received(single)), rtol=2e-2, atol=2e-2)


@EVERY_COMPRESSOR
def test_subnormal_entries_and_one_entry_are_compressed(compressor: Compressor) -> None:
    for values in ([1e-40, -3e-42, 0.0], [1.0, 1e-42], [2.0], [-1e-45]):
        vector = torch.tensor(values)
        payload = compressor.compress(vector, generator=generator_for(1))
        assert bool(torch.isfinite(dense(received(payload))).all())


@EVERY_COMPRESSOR
def test_a_vector_without_entries_is_refused(compressor: Compressor) -> None:
    with pytest.raises(ValueError, match="no entries: there is nothing to compress"):
        compressor.compress(torch.empty(0), generator=generator_for(0))


@EVERY_COMPRESSOR
def test_what_float32_does_not_hold_is_refused(compressor: Compressor) -> None:
    vector = torch.tensor([1.0, -1e200, 0.0, 2.0, -3.0, 0.25, 0.0, 1.5], dtype=torch.float64)
    beyond = "(may|does) not fit float32|rounded up to more than 3.4"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NonFiniteError, match=beyond):
            compressor.compress(vector, generator=generator_for(0))


@EVERY_COMPRESSOR
def test_what_is_no_vector_is_refused(compressor: Compressor) -> None:
    cases: list[tuple[Any, str]] = [
        (torch.ones(2, 4), r"the vector has shape \(2, 4\): give one of shape \(d,\)"),
        (torch.tensor(3.0), r"the vector has shape \(\): give one of shape \(d,\)"),
        (torch.tensor([1, 2, 3]), r"the vector is of torch\.int64: give real floating-point"),
        (torch.tensor([1 + 2j, 3]), r"the vector is of torch\.complex64: give real"),
        ([1.0, 2.0], "the vector is a list: give a tensor"),
    ]
    for vector, text in cases:
        with pytest.raises(ValueError, match=text):
            compressor.compress(vector, generator=generator_for(0))


@pytest.mark.parametrize(
    "compressor", [*ALL_COMPRESSORS, StandardDithering(levels=3, norm=1.5)], ids=str
)
def test_a_vector_with_a_graph_gives_a_payload_without(compressor: Compressor) -> None:
    entries = [4.0, 1.0, -2.0, 3.0, 0.5, 0.0, 1.0, 2.0]
    plain, tracked = torch.tensor(entries), torch.tensor(entries, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        payload = compressor.compress(2 * tracked, generator=generator_for(1))
    expected = compressor.compress(2 * plain, generator=generator_for(1))
    assert not payload.to_dense().requires_grad
    assert torch.equal(payload.to_dense(), expected.to_dense())


READER = """
import sys
from pathlib import Path
import torch
from mlmc_ray.wire import decode
for path in sorted(Path(sys.argv[1]).iterdir()):
    payload = decode(path.read_bytes()).payloads["v"]
    vector = torch.zeros(payload.dim)
    payload.add_to(vector)
    path.write_bytes(vector.numpy().tobytes())
"""


def test_another_process_reads_every_frame_and_it_is_small(tmp_path: Path) -> None:
    """A compressor that sent its input would fail: frames are bounded and errors are not zero."""
    vector = torch.randn(4096, generator=generator_for(3))
    sent = {}
    for number, compressor in enumerate(ALL_COMPRESSORS):
        payload = compressor.compress(vector, generator=generator_for(number))
        frame = encode(Message({"v": payload}))
        (tmp_path / f"{number:03}").write_bytes(frame)
        sent[number] = torch.zeros(4096)
        payload.add_to(sent[number])
        whole = torch.equal(sent[number], vector)
        most = 4.0 if whole or isinstance(compressor, FixedPoint | FloatingPoint) else 3.2
        most = 5.0 if isinstance(compressor, PerBucket) else most  # headers of buckets of 3
        assert len(frame) <= most * len(vector) + 64, compressor
        # PowerSGD without shapes, PermK of one worker, and 100 segments of 100 are all of it.
        all_of_it = Identity | PowerSGD | SegmentedTopK | PermK
        assert not whole or isinstance(compressor, all_of_it), compressor
    subprocess.run([sys.executable, "-c", READER, str(tmp_path)], check=True)
    for number, expected in sent.items():
        got = torch.frombuffer(
            bytearray((tmp_path / f"{number:03}").read_bytes()), dtype=torch.float32
        )
        assert torch.equal(got, expected), ALL_COMPRESSORS[number]


RANDOM = RandK | RandomSparse | AdaptiveRandom | TopKDithering | Lazy | PermK
CONTRACTIVE = [
    compressor
    for compressor in ALL_COMPRESSORS
    if compressor.alpha(10) is not None and not isinstance(compressor, RANDOM)
]


@pytest.mark.parametrize("compressor", CONTRACTIVE, ids=str)
@given(vector=vectors())
@FEW
def test_contraction(compressor: Compressor, vector: Tensor) -> None:
    alpha = compressor.alpha(len(vector))
    assert alpha is not None
    assert 0 < alpha <= 1
    error = squared(compressed(compressor, vector) - vector)
    # Codes have float32 scales.
    assert error <= ((1 - alpha) * (1 + 1e-12) + 1e-6) * squared(vector)


def test_which_are_unbiased_and_which_contract() -> None:
    for compressor in ALL_COMPRESSORS:
        if compressor.omega(10) is not None:
            assert compressor.unbiased, compressor
        if compressor.alpha(10) is not None:
            assert not compressor.unbiased or compressor.omega(10) == 0, compressor
        bounds = (compressor.omega(10), compressor.alpha(10))
        without = ECUQ | MLMC | RandomTruncation | DRIVE | EDEN | PowerSGD  # no bound is known
        assert bounds != (None, None) or isinstance(compressor, without), compressor


@pytest.mark.parametrize("dim", [3, 10])
@pytest.mark.parametrize("compressor", [TopK(k=2), TopK(k=0.3), TopK(k=100)], ids=str)
def test_alpha_of_top_k_is_attained_by_equal_magnitudes(compressor: TopK, dim: int) -> None:
    error = squared(compressed(compressor, torch.ones(dim)) - 1)
    assert error == pytest.approx((1 - compressor.alpha(dim)) * dim, abs=1e-12)


def test_ties_go_to_the_lower_index() -> None:
    vector = torch.tensor([1.0, -2.0, 2.0, -1.0, 2.0, 1.0])
    assert compressed(TopK(k=2), vector).tolist() == [0, -2, 2, 0, 0, 0]
    assert compressed(TopK(k=4), vector).tolist() == [1, -2, 2, 0, 2, 0]
    sorted_segments = SegmentedTopK(k=1, segment_size=4)
    assert compressed(sorted_segments, vector).tolist() == [1, -2, 2, 0, 2, 0]
    contiguous = SegmentedTopK(k=2, segment_size=2, contiguous=True)
    assert compressed(contiguous, vector).tolist() == [1, -2, 2, -1, 0, 0]


@given(vector=vectors(max_dim=12), k=st.integers(1, 25))
@SOME
def test_top_k_splits_the_energy_and_is_idempotent(vector: Tensor, k: int) -> None:
    kept = compressed(TopK(k=k), vector)
    assert squared(kept - vector) + squared(kept) == pytest.approx(squared(vector), rel=1e-12)
    assert torch.equal(compressed(TopK(k=k), kept), kept)


@pytest.mark.parametrize("contiguous", [False, True])
@given(vector=vectors(max_dim=12), size=st.integers(1, 6), k=st.integers(1, 6))
@SOME
def test_supports_are_nested(vector: Tensor, size: int, k: int, contiguous: bool) -> None:
    fewer = compressed(SegmentedTopK(k=k, segment_size=size, contiguous=contiguous), vector)
    more = compressed(SegmentedTopK(k=k + 1, segment_size=size, contiguous=contiguous), vector)
    assert torch.equal(more[fewer != 0], fewer[fewer != 0])


@given(vector=vectors(max_dim=12), size=st.integers(1, 6), k=st.integers(1, 6))
@SOME
def test_segments_of_the_sorted_list_are_top_k(vector: Tensor, size: int, k: int) -> None:
    by_segments = compressed(SegmentedTopK(k=k, segment_size=size), vector)
    top = compressed(TopK(k=k * size), vector)
    assert torch.equal(by_segments, top)
    ones = SegmentedTopK(k=k, segment_size=1, contiguous=True)
    assert torch.equal(compressed(ones, vector), compressed(TopK(k=k), vector))


@given(vector=vectors(max_dim=12), size=st.integers(1, 6), k=st.integers(1, 6))
@SOME
def test_contiguous_segments_lose_no_less(vector: Tensor, size: int, k: int) -> None:
    contiguous = compressed(SegmentedTopK(k=k, segment_size=size, contiguous=True), vector)
    top = compressed(TopK(k=k * size), vector)
    assert squared(contiguous - vector) >= squared(top - vector) * (1 - 1e-12)


def test_alpha_of_segments() -> None:
    assert SegmentedTopK(k=2, segment_size=4).alpha(10) == 0.8
    assert SegmentedTopK(k=3, segment_size=4).alpha(10) == 1.0
    assert SegmentedTopK(k=2, segment_size=4, contiguous=True).alpha(10) == 2 / 3
    assert SegmentedTopK(k=9, segment_size=4, contiguous=True).alpha(10) == 1.0


def test_alpha_of_contiguous_segments_is_attained_by_equal_norms() -> None:
    compressor = SegmentedTopK(k=1, segment_size=3, contiguous=True)
    vector = torch.tensor([1.0, 1.0, 1.0, math.sqrt(3)])  # d = 4: 3/4 would be too optimistic
    error = squared(compressed(compressor, vector) - vector)
    assert error == pytest.approx((1 - compressor.alpha(4)) * squared(vector), rel=1e-6)


def test_a_fraction_is_of_the_dimension() -> None:
    assert TopK(k=0.25).alpha(8) == 0.25
    assert TopK(k=0.01).alpha(8) == 1 / 8
    assert RandK(k=0.5).omega(8) == 1.0


def every_subset(compressor: RandK, vector: Tensor, k: int) -> list[SeededSparsePayload]:
    """Search the seeds until every k-subset of the indices has been drawn; keep one of each."""
    wanted = set(combinations(range(len(vector)), k))
    found: dict[tuple[int, ...], SeededSparsePayload] = {}
    for seed in range(20 * len(wanted) * len(wanted)):
        payload = compressor.with_seed(vector, seed)
        found.setdefault(tuple(payload.indices().tolist()), payload)
        if len(found) == len(wanted):
            break
    assert set(found) == wanted
    return list(found.values())


@pytest.mark.parametrize(("dim", "k"), [(1, 1), (4, 1), (5, 2), (6, 3), (6, 5), (6, 6), (3, 9)])
@pytest.mark.parametrize("scaled", [True, False])
def test_mean_and_variance_of_rand_k_are_exact(dim: int, k: int, scaled: bool) -> None:
    vector = torch.tensor([3.0, -4.0, 0.0, 1.5, -0.1, 7.0])[:dim]
    compressor, kept = RandK(k=k, scaled=scaled), min(k, dim)
    outcomes = [dense(received(p)) for p in every_subset(compressor, vector, kept)]
    mean = torch.stack(outcomes).mean(dim=0)
    factor = 1.0 if scaled else kept / dim
    torch.testing.assert_close(mean, factor * vector.double(), rtol=1e-6, atol=0)
    variance = sum(squared(outcome - vector) for outcome in outcomes) / len(outcomes)
    bound = compressor.omega(dim) if scaled else 1 - kept / dim
    assert bound is not None
    assert variance == pytest.approx(bound * squared(vector), rel=1e-6, abs=1e-12)
    assert compressor.alpha(dim) == (None if scaled else kept / dim)


def test_golden_errors() -> None:
    assert squared(compressed(TopK(k=2), GOLDEN) - GOLDEN) == 6.25
    outcomes = [dense(payload) for payload in every_subset(RandK(k=2), GOLDEN, 2)]
    assert sum(squared(outcome - GOLDEN) for outcome in outcomes) / len(outcomes) == 93.75


def test_rand_k_draws_its_seed_from_the_generator() -> None:
    first, again, other = (
        RandK(k=1).compress(torch.ones(4), generator=generator_for(name)) for name in (1, 1, 2)
    )
    assert isinstance(first, SeededSparsePayload)
    assert isinstance(again, SeededSparsePayload)
    assert isinstance(other, SeededSparsePayload)
    assert first.seed == again.seed != other.seed


@given(vector=vectors(max_dim=12), planes=st.integers(1, 31))
@SOME
def test_fixed_point_keeps_the_leading_digits(vector: Tensor, planes: int) -> None:
    kept = compressed(FixedPoint(planes=planes), vector)
    magnitudes = vector.abs().double()
    largest = float(magnitudes.max())
    scale = 2.0 ** (math.floor(math.log2(largest)) + 1) if largest else 1.0
    expected = [
        math.copysign(math.floor(abs(v) / scale * 2**planes) * scale / 2**planes, v)
        for v in vector.tolist()
    ]
    assert torch.equal(kept, torch.tensor(expected, dtype=torch.float64))
    assert bool(((kept - vector).abs() < scale * 2.0**-planes).all())


@given(vector=vectors(max_dim=12))
@SOME
def test_one_plane_is_a_sign_and_a_digit(vector: Tensor) -> None:
    kept = compressed(FixedPoint(planes=1), vector)
    half = 2.0 ** torch.frexp(vector.abs().max()).exponent.double() / 2
    assert torch.equal(kept, half * vector.sign() * (vector.abs() >= half))


@given(vector=vectors(max_dim=12))
@SOME
def test_more_planes_err_less(vector: Tensor) -> None:
    errors = [(compressed(FixedPoint(planes=p), vector) - vector).abs() for p in (1, 2, 7, 8, 31)]
    for more, fewer in pairwise(errors):
        assert bool((fewer <= more).all())


@given(mantissas=st.lists(st.integers(1 - (1 << 24), (1 << 24) - 1), min_size=1, max_size=10))
@SOME
def test_enough_planes_are_the_identity(mantissas: list[int]) -> None:
    """With exponents within 2^7 of each other 24 + 7 planes hold every digit of float32."""
    vector = torch.tensor(mantissas, dtype=torch.float32)
    vector[vector.abs() < vector.abs().max() / 128] = 0
    assert torch.equal(compressed(FixedPoint(planes=31), vector), vector.double())


def test_the_smallest_numbers_of_float32_have_digits_too() -> None:
    vector = torch.tensor([2.0**-149, 3 * 2.0**-149])
    assert torch.equal(compressed(FixedPoint(planes=31), vector), vector.double())
    assert compressed(FixedPoint(planes=1), vector).tolist() == [0, 2.0**-148]


def test_paper_costs() -> None:
    assert [
        cost.bits
        for compressor in (
            Identity(),
            TopK(k=3),
            SegmentedTopK(k=2, segment_size=4),
            RandK(k=0.5),
            FixedPoint(planes=1),
        )
        if (cost := compressor.paper_cost(10))
    ] == [640, 192, 512, 320, 84]


@pytest.mark.parametrize(
    ("kind", "arguments", "complaint"),
    [
        (TopK, {"k": 0}, "k is 0"),
        (TopK, {"k": 1.5}, r"k is 1\.5"),
        (TopK, {"k": True}, "k is True"),
        (RandK, {"k": -1}, "k is -1"),
        (SegmentedTopK, {"k": 0, "segment_size": 1}, "k is 0: give at least 1 segment"),
        (SegmentedTopK, {"k": 1, "segment_size": 0.0}, r"segment_size is 0\.0"),
        (FixedPoint, {"planes": 0}, "planes is 0: give 1 to 31"),
        (FixedPoint, {"planes": 32}, "planes is 32: give 1 to 31"),
        (FixedPoint, {"planes": 1.5}, r"planes is 1\.5: give a whole number, 1 to 31"),
        (SegmentedTopK, {"k": "1", "segment_size": 1}, "k is '1': give a whole number, at least 1"),
        (Bernoulli, {"p": "x"}, "p is 'x': give a probability"),
        (Bernoulli, {"p": True}, "p is True: give a probability"),
        (PermK, {"num_workers": "a"}, "num_workers is 'a': give a whole number, at least 1"),
        (PermK, {"seed": -1}, "seed is -1: give 0 to"),
        (StandardDithering, {"levels": 2.5}, r"levels is 2\.5: give a whole number, 1 to 32767"),
        (StandardDithering, {"levels": 2, "norm": "2"}, "norm is '2': give p of the l_p norm"),
        (
            StandardDithering,
            {"levels": 2, "bucket_size": True},
            "bucket_size is True: give a whole",
        ),
        (QSGD, {"levels": 2, "bucket_size": "8"}, "bucket_size is '8': give a whole number"),
        (TernGrad, {"clip": "3"}, "clip is '3': give a positive number of standard deviations"),
        (SparseDithering, {"nu": "1"}, "nu is '1': give a positive number"),
        (UnbiasedRounding, {"base": "2"}, "base is '2': give a number above 1"),
        (EDEN, {"bits": "2"}, "bits is '2': give a rate"),
        (TopRand, {"k": 2, "top_share": "a"}, "top_share is 'a': give a part"),
        (PowerSGD, {"rank": 2.5}, r"rank is 2\.5: give a whole number, at least 1 column"),
        (PowerSGD, {"rank": 2, "layer_shapes": ((-24,),)}, "layer_shapes is -24: give at least 1"),
        (PerLayer, {"compressor": TopK(k=1), "layer_sizes": (0,)}, "layer_sizes is 0: give at"),
        (PerLayer, {"compressor": 3}, "compressor is 3: give a compressor, such as"),
        (PerBucket, {"compressor": TopK, "bucket_size": 2}, "compressor is <class .*: give a"),
        (Lazy, {"compressor": 3, "p": 0.5}, "compressor is 3: give a compressor, such as"),
        (Induced, {"contractive": 3, "correction": RandK(k=1)}, "contractive is 3: give a comp"),
        (Induced, {"contractive": TopK(k=1), "correction": 3}, "correction is 3: give a comp"),
        (ImportanceSampled, {"draws": 10**30}, "draws is 10+: give 1 to 2147483647, or a fraction"),
        (ImportanceSampled, {"draws": 0}, "draws is 0: give 1 to 2147483647"),
        (
            MLMC,
            {"ladder": TopKLadder(), "draws": 10**30},
            "draws is 10+: draw at least 1 level, at",
        ),
    ],
)
def test_settings_out_of_range_are_refused(
    kind: Any, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        kind(**arguments)


def test_there_may_be_more_draws_than_entries() -> None:
    payload = ImportanceSampled(draws=100).compress(torch.ones(4), generator=generator_for(0))
    assert payload.to_dense().sum() == pytest.approx(4.0)


# A compressor of one's own.


@dataclasses.dataclass(frozen=True)
class Own:
    """Calls a function, which may return or raise anything."""

    does: Any
    unbiased: bool = False

    def compress(self, vector: Tensor, *, generator: Any) -> Any:
        return self.does(vector)

    def omega(self, dim: int) -> None: ...

    def alpha(self, dim: int) -> float:
        return 0.25

    def paper_cost(self, dim: int) -> None: ...


def look_up(vector: Tensor) -> Any:
    known: dict[str, Any] = {}
    return known["boom"]


def own(does: Any) -> Compressor:
    return bound(Own(does), Context(generator=generator_for(0)))


def test_a_bound_compressor_of_ones_own_does_the_same() -> None:
    compressor = own(DensePayload)
    assert not compressor.unbiased
    assert (compressor.omega(3), compressor.alpha(3), compressor.paper_cost(3)) == (
        None,
        0.25,
        None,
    )
    assert compressed(compressor, torch.ones(3)).tolist() == [1, 1, 1]
    library = TopK(k=1)
    assert bound(library, Context(generator=generator_for(0))) is library


@pytest.mark.parametrize(
    ("does", "text"),
    [
        (
            look_up,
            r"KeyError while compressing: 'boom' \(.*test_compressors.py, line \d+, in look_up",
        ),
        (lambda v: v, "compress returned a Tensor: return a payload, such as SparsePayload"),
        (lambda v: None, "compress returned None: return a payload"),
        (
            lambda v: ZeroPayload(2),
            "compress returned a payload of 2 entries for a vector of 3: return one",
        ),
    ],
    ids=["raises", "tensor", "none", "other length"],
)
def test_errors_of_a_compressor_of_ones_own_name_it(does: Any, text: str) -> None:
    inside = bound(Lazy(compressor=Own(does), p=1.0), Context(generator=generator_for(0)))
    for compressor in (own(does), inside):
        with pytest.raises(ProblemError, match=f"^compressor Own: {text}"):
            compressor.compress(torch.ones(3), generator=generator_for(0))


def test_refusals_in_a_compressor_of_ones_own_stay_what_they_are() -> None:
    with pytest.raises(NonFiniteError, match="1 of 3"):
        compressed(
            own(lambda v: Identity().compress(v / v[0], generator=generator_for(0))),
            torch.tensor([2.0, 1e38, math.nan]),
        )
