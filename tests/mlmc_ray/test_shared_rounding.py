"""Rounding by shared thresholds: scalars, and groups as random directions."""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from mlmc_ray.compressors import Compressor, Context, SharedDirections, SharedThresholds
from mlmc_ray.compressors import shared_groups as module
from mlmc_ray.compressors.shared_plans import Plan
from mlmc_ray.compressors.step_rates import inverse_square_cosine
from mlmc_ray.errors import NonFiniteError, WireError
from mlmc_ray.kernels.sphere_codebook import random_bases
from mlmc_ray.payloads import Message, SharedRoundingPayload, ZeroPayload
from mlmc_ray.payloads import grouping as cutting
from mlmc_ray.payloads import shared_rounding as payloads
from mlmc_ray.payloads.grouping import Grouping, codebook
from mlmc_ray.problems import Digits
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import decode, encode
from tests.mlmc_ray.cases import dense, received

Shared = SharedThresholds | SharedDirections
SMALL = torch.tensor([3.0, -4.0, 0.25, 0.0, 1.0, -0.5, 7.0])
LAYOUTS = pytest.mark.parametrize("layout", ["interleaved", "contiguous"])
COMPRESSORS = [
    SharedThresholds(rms=4.0, block=3),
    SharedDirections(rms=8.0, group_size=4, bits=5),
    SharedThresholds(rms=0.7, layout="contiguous", block=2),
    SharedDirections(rms=20.0, group_size=16, bits=7, layout="contiguous"),
]
KINDS = pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
ONE_OF_EACH = pytest.mark.parametrize(
    "compressor",
    [*COMPRESSORS[:2], *(pytest.param(one, marks=pytest.mark.slow) for one in COMPRESSORS[2:])],
    ids=str,
)


def squared(vector: Tensor) -> float:
    return float(vector.double().square().sum())


@contextmanager
def thresholds(of_blocks: npt.NDArray[np.float64]) -> Iterator[None]:
    """Let the first blocks of every layer have these u, whatever the seed."""

    def given(seed: int, num_blocks: int, **_: int) -> npt.NDArray[np.float64]:
        return of_blocks[:num_blocks]

    with mock.patch.object(cutting, "shared_uniform", given):
        yield


@contextmanager
def groups_of(size: int) -> Iterator[None]:
    """Let every layer have groups of one size."""
    with mock.patch.object(Plan, "_group_sizes", return_value=[size]):
        yield


def grouping(
    shapes: tuple[tuple[int, int], ...], group_sizes: tuple[int, ...], bits: int = 1
) -> Grouping:
    return Grouping(
        shapes=shapes,
        group_sizes=group_sizes,
        bits=bits,
        block=1,
        interleaved_entries=True,
        interleaved_groups=True,
    )


@cache
def gradient() -> tuple[Tensor, Context]:
    """Return one gradient of the digits network at its first parameters, and where it is used."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Digits().model()
    shard = Digits().shard(0, 1, generator_for(0))
    images, labels = shard.sample(256, generator_for(1))
    loss = Digits().loss(network, (images, labels))
    parts = torch.autograd.grad(loss, list(network.parameters()))
    context = Context(
        generator_for(0),
        layer_sizes=tuple(part.numel() for part in parts),
        layer_shapes=tuple(tuple(part.shape) for part in parts),
    )
    return parameters_to_vector(parts).detach(), context


# -- thresholds --------------------------------------------------------------------------------


def test_layers_and_seeds_have_thresholds_of_their_own() -> None:
    layers = list(grouping(((1, 12), (1, 12)), (1, 1)).layers())
    drawn = [layer.uniforms(seed) for layer in layers for seed in (1, 2)]
    assert all(not np.allclose(a, b) for a, b in itertools.combinations(drawn, 2))


@LAYOUTS
def test_the_mean_of_scalars_and_their_variance_are_exact(layout: str) -> None:
    """Over all permutations, and over U between the points where a count changes."""
    compressor = SharedThresholds(step=2.5, layout=layout, block=3)  # type: ignore[arg-type]
    number = math.ceil(len(SMALL) / 3)
    exact = (SMALL.abs().double() / 2.5).numpy()
    jumps = np.unique(np.append((-exact * number) % 1, [0.0, 1.0]))
    mean, error, orders = torch.zeros(7).double(), 0.0, list(itertools.permutations(range(number)))
    for order, (low, high) in itertools.product(orders, itertools.pairwise(jumps)):
        with thresholds((np.array(order) + (low + high) / 2) / number):
            got = dense(compressor.with_seed(SMALL, 0))
        weight = (high - low) / len(orders)
        mean += weight * got
        error += weight * squared(got - SMALL)
    torch.testing.assert_close(mean, SMALL.double(), rtol=1e-12, atol=1e-12)
    assert error == pytest.approx(compressor.expected_error(SMALL, 0), rel=1e-12)


def test_equal_entries_attain_the_bound_of_scalars() -> None:
    for rms in (0.5, 1.5, 2.0, 5.0, 40.0):
        compressor, vector = SharedThresholds(rms=rms), torch.full((50,), -3.0)
        error = compressor.expected_error(vector, 0) / squared(vector)
        bound = compressor.omega(50)
        assert bound is not None
        assert error <= bound * (1 + 1e-6)
        if rms >= 2:
            assert error == pytest.approx(bound, rel=1e-5)


@pytest.mark.parametrize("rms", [0.3, 2.0, 8.0, 50.0])
def test_no_vector_exceeds_the_bound(rms: float) -> None:
    spike = torch.zeros(256)
    spike[7] = 5.0
    normal = torch.randn(256, generator=generator_for(2))
    for vector in (normal, normal**5, spike, torch.ones(256)):
        for compressor in (
            SharedThresholds(rms=rms),
            SharedDirections(rms=rms, group_size=4, bits=4),
            SharedDirections(rms=rms, group_size=16, bits=7),
        ):
            bound = compressor.omega(256)
            assert bound is not None
            assert compressor.expected_error(vector, 3) <= bound * squared(vector) * (1 + 1e-6)


# -- directions --------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "size"), [(8, 2), (8, 8), (12, 8), (512, 64), (2048, 128)])
def test_a_codebook_holds_bases(rows: int, size: int) -> None:
    book = random_bases(3, rows, size).astype(np.float64)
    assert book.shape == (rows, size)
    for start in range(0, rows, size):
        basis = book[start : start + size]
        assert np.allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-6)
    points = np.random.default_rng(0).standard_normal((100, size))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert np.abs(points @ book.T).max(axis=1).min() >= (1 - 1e-6) / math.sqrt(size)


def test_directions_are_uniform() -> None:
    """Of every row of the codebook: the second and fourth moments of the sphere."""
    cut = grouping(((1, 64),), (4,), bits=4)
    books = np.array([codebook(seed, cut, 4) for seed in range(2000)]).astype(np.float64)
    assert np.abs(books.mean(axis=0)).max() < 6 * 0.5 / math.sqrt(2000)
    assert np.abs((books**2).mean(axis=0) - 1 / 4).max() < 6 * 0.25 / math.sqrt(2000)
    assert np.abs((books**4).mean(axis=0) - 3 / 24).max() < 6 * 0.23 / math.sqrt(2000)


def test_the_mean_of_directions_is_exact() -> None:
    """Over 2000 rotations of a codebook in the plane; the step is so small that q step is S.

    The mean jumps 16 times on the way round, which costs the quadrature about 10^-3; without the
    scale of S the mean would be off by 5 10^-2.
    """
    vector, angles = torch.tensor([1.3, -0.4]), np.arange(2000) * (2 * math.pi / 2000)
    compressor = SharedDirections(step=1e-6, group_size=2, bits=4)
    book = random_bases(1, 8, 2)
    mean = torch.zeros(2).double()
    for angle in angles:
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = (book @ turn).astype(np.float32)
        given = mock.Mock(return_value=turned)
        with (
            groups_of(2),
            mock.patch.object(module, "codebook", given),
            mock.patch.object(payloads, "codebook", given),
        ):
            mean += dense(compressor.with_seed(vector, 0)) / len(angles)
    torch.testing.assert_close(mean, vector.double(), rtol=0, atol=4e-3)


@LAYOUTS
@pytest.mark.parametrize("size", [500, pytest.param(512, marks=pytest.mark.slow)])
def test_the_mean_and_the_error_of_directions(layout: str, size: int) -> None:
    """The mean of N draws is off by E|C(v) - v|^2 / N; a bias of 2% of |v| would double that."""
    vector = torch.randn(size, generator=generator_for(4)) ** 3
    compressor = SharedDirections(
        rms=12.0,
        group_size=16,
        bits=7,
        layout=layout,  # type: ignore[arg-type]
    )
    with groups_of(16):
        draws = torch.stack([dense(compressor.with_seed(vector, seed)) for seed in range(2000)])
        expected = np.mean([compressor.expected_error(vector, seed) for seed in range(50)])
    error = float((draws - vector).square().sum(dim=1).mean())
    off = squared(draws.mean(dim=0) - vector)
    assert error / 2000 < 0.002 * squared(vector)
    assert 0.7 < off * 2000 / error < 1.4
    assert error == pytest.approx(expected, rel=0.06 if size % 16 == 0 else 0.1)


def test_the_error_over_thresholds_is_exact() -> None:
    vector = torch.randn(64, generator=generator_for(5))
    compressor = SharedDirections(step=15.0, group_size=16, bits=7)
    grid = (np.arange(4000) + 0.5) / 4000
    errors = []
    with groups_of(16):
        for u in grid:
            with thresholds(np.full(64, u)):
                errors.append(squared(dense(compressor.with_seed(vector, 9)) - vector))
        expected = compressor.expected_error(vector, 9)
    assert np.mean(errors) == pytest.approx(expected, rel=2e-3)


def test_a_layer_is_cut_as_is_cheapest_in_bits_and_error() -> None:
    vector = torch.cat([torch.randn(1024, generator=generator_for(6)), torch.ones(5)])

    def groups(rms: float) -> tuple[int, ...]:
        compressor = SharedDirections(
            rms=rms, group_size=32, bits=7, layer_shapes=((1, 1024), (1, 5))
        )
        payload = compressor.with_seed(vector, 1)
        assert isinstance(payload, SharedRoundingPayload)
        return payload.grouping.group_sizes

    assert groups(60.0)[0] == 32
    assert groups(8.0)[0] == 16
    assert groups(0.5) == (1, 1)


def test_a_vector_of_few_large_entries_is_rounded_one_by_one() -> None:
    vector = torch.zeros(4096)
    vector[::512] = 5.0
    payload = SharedDirections(rms=20.0).with_seed(vector, 1)
    assert isinstance(payload, SharedRoundingPayload)
    assert payload.grouping.group_sizes == (1,)


@pytest.mark.parametrize(("n", "bits"), [(4, 7), (8, 10), (64, 10)])
def test_the_expected_cosine_is_that_of_codebooks(n: int, bits: int) -> None:
    normal = np.random.default_rng(0).standard_normal((2000, n))
    points = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    found = []
    for seed in range(4):
        rows = random_bases(seed, 1 << (bits - 1), n)
        found.append((np.abs(points @ rows.T).max(axis=1) ** -2).mean())
    assert inverse_square_cosine(n, bits) == pytest.approx(np.mean(found), rel=0.02)


# -- both --------------------------------------------------------------------------------------


@ONE_OF_EACH
@pytest.mark.parametrize(
    "vector",
    [
        torch.cat([torch.zeros(300), torch.tensor([-8.0])]),
        torch.ones(77),
        torch.tensor([2.0]),
        torch.tensor([1e-40, -3e-42, 0.0]),
        torch.tensor([1e30, 1.0, -1e-30] * 9),
        torch.tensor([0.0, -0.0, 5.0], dtype=torch.float64),
    ],
    ids=["spike", "equal", "one entry", "subnormal", "huge range", "double"],
)
def test_odd_vectors_are_unbiased(compressor: Shared, vector: Tensor) -> None:
    seeds = 600
    draws = [received(compressor.with_seed(vector, seed)) for seed in range(seeds)]
    mean = torch.stack([dense(draw) for draw in draws]).mean(dim=0)
    bound = compressor.omega(vector.numel())
    assert bound is not None
    assert mean.isfinite().all()
    assert squared(mean - vector) <= 4 * bound * squared(vector) / seeds + 1e-80


@KINDS
def test_layers_are_cut_apart(compressor: Shared) -> None:
    """Zeros of one layer stay zero, whatever their neighbours are."""
    vector = torch.cat([torch.zeros(100), torch.ones(41), torch.zeros(3)])
    known = compressor.bind(Context(generator_for(0), layer_sizes=(100, 41, 0, 3)))
    assert known.layer_shapes == ((1, 100), (1, 41), (1, 3))
    for seed in range(20):
        got = dense(known.with_seed(vector, seed))
        assert not got[:100].any()
        assert not got[141:].any()
    with pytest.raises(ValueError, match="layer_shapes hold 144 entries, and the vector has 9"):
        known.with_seed(torch.ones(9), 0)


@pytest.mark.parametrize("kind", [SharedThresholds, SharedDirections])
@pytest.mark.parametrize("rate", [0.2, 0.5, 2.0])
def test_the_size_is_what_was_asked_for(kind: type[Shared], rate: float) -> None:
    vector, context = gradient()
    in_bytes = round(rate * len(vector) / 8)
    for compressor in (kind(bits_per_value=rate), kind(message_bytes=in_bytes)):
        known = compressor.bind(context)
        frames = [len(encode(Message({"v": known.with_seed(vector, seed)}))) for seed in range(8)]
        assert np.mean(frames) == pytest.approx(in_bytes, rel=0.06)


@pytest.mark.parametrize("kind", [SharedThresholds, SharedDirections])
@pytest.mark.parametrize("omega", [0.3, 3.0, 30.0])
def test_the_error_is_what_was_asked_for(kind: type[Shared], omega: float) -> None:
    vector, context = gradient()
    known = kind(target_omega=omega).bind(context)
    errors = [known.expected_error(vector, seed) / squared(vector) for seed in range(4)]
    assert np.mean(errors) == pytest.approx(omega, rel=0.08)


@pytest.mark.parametrize("rate", [0.75, 1.0, 1.3, 2.0, 2.5])
def test_a_vector_of_one_layer_has_any_size_and_error(rate: float) -> None:
    """Also between those at which the cheapest group size changes."""
    vector = torch.randn(20_000, generator=generator_for(3))
    size = len(encode(Message({"v": SharedDirections(bits_per_value=rate).with_seed(vector, 1)})))
    assert size == pytest.approx(rate * len(vector) / 8, rel=0.03)
    error = SharedDirections(target_omega=rate / 4).expected_error(vector, 1)
    assert error == pytest.approx(rate / 4 * squared(vector), rel=0.05)


def test_the_bound_is_of_the_groups_that_the_vector_may_have() -> None:
    assert SharedDirections(rms=30.0).omega(1000) == 30 * math.sqrt(16) - 1
    assert SharedDirections(rms=30.0).omega(10) == 29


def test_the_step_may_be_that_of_the_largest_entry() -> None:
    payload = SharedThresholds(peak=1.5).with_seed(SMALL, 3)
    assert isinstance(payload, SharedRoundingPayload)
    assert payload.step == 10.5
    assert payload.counts.max() == 1
    spike = torch.zeros(99)
    spike[5] = 2.0
    for vector in (SMALL, torch.ones(99), spike, torch.randn(99, generator=generator_for(1))):
        for peak in (1.0, 1.5, 4.0):
            compressor = SharedThresholds(peak=peak)
            bound = compressor.omega(len(vector))
            assert bound is not None
            assert compressor.expected_error(vector, 0) <= bound * squared(vector) * (1 + 1e-6)
    assert SharedDirections(peak=1.0).omega(99) is None


def test_a_message_shorter_than_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match=r"20 bytes are asked for a message of 9 entries in 1 lay"):
        SharedThresholds(message_bytes=20).with_seed(torch.ones(9), 0)
    with pytest.raises(ValueError, match=r"and for 456 at most"):
        SharedThresholds(bits_per_value=40.0).with_seed(torch.ones(100), 0)


def test_directions_take_fewer_bits_for_their_error() -> None:
    vector, context = gradient()
    merits = []
    for kind in (SharedThresholds, SharedDirections):
        compressor = kind(bits_per_value=0.2).bind(context)
        payloads_drawn = [compressor.with_seed(vector, seed) for seed in range(10)]
        bits = np.mean([8 * len(encode(Message({"v": p}))) for p in payloads_drawn]) / len(vector)
        error = np.mean([squared(dense(p) - vector) for p in payloads_drawn]) / squared(vector)
        merits.append(bits * (1 + error))
    assert merits[1] < 0.85 * merits[0]


@pytest.mark.parametrize(
    "compressor", [SharedThresholds(rms=30.0), SharedDirections(rms=60.0)], ids=str
)
def test_the_norm_of_the_message_is_steady(compressor: Shared) -> None:
    vector, context = gradient()
    known = compressor.bind(context)
    norms = [math.sqrt(squared(dense(known.with_seed(vector, seed)))) for seed in range(20)]
    assert np.std(norms) < 0.1 * np.mean(norms)
    omega = known.expected_error(vector, 0) / squared(vector)
    assert np.mean(norms) == pytest.approx(math.sqrt((1 + omega) * squared(vector)), rel=0.06)


def test_a_message_of_nothing_is_short() -> None:
    payload = SharedThresholds(step=1e20).with_seed(torch.ones(9), 0)
    assert isinstance(payload, ZeroPayload)


def test_what_no_step_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the step 1e-20 is below 2\^-32 of an entry"):
        SharedThresholds(step=1e-20).with_seed(torch.ones(3), 0)
    with pytest.raises(NonFiniteError, match=r"a step of 3e\+39 does not fit float32"):
        SharedThresholds(rms=10.0).with_seed(torch.full((4,), 3e38), 0)
    with (
        thresholds(np.full(1, 0.99)),
        pytest.raises(NonFiniteError, match=r"steps of .* may not fit float32"),
    ):
        SharedThresholds(step=2e38).with_seed(torch.tensor([3.3e38]), 0)


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (SharedThresholds, {}, "nothing is given: give one of"),
        (SharedThresholds, {"step": 1.0, "rms": 2.0}, r"\['rms', 'step'\] is given: give one of"),
        (SharedThresholds, {"rms": -1.0}, "rms is -1.0: give a positive number"),
        (SharedThresholds, {"rms": 1.0, "layout": "mixed"}, "layout is 'mixed': give 'inter"),
        (SharedThresholds, {"rms": 1.0, "block": 0}, "block is 0: give 1 to 2147483647"),
        (SharedThresholds, {"rms": 1.0, "layer_shapes": ((1, 0),)}, "a side in layer_shapes is 0"),
        (SharedThresholds, {"message_bytes": 1.5}, "message_bytes is 1.5: give"),
        (SharedThresholds, {"rms": 1.0, "coordinated": "no"}, "coordinated is 'no': give true or"),
        (SharedDirections, {"rms": 1.0, "bits": 13}, "bits is 13: give 4 to 12"),
        (SharedDirections, {"rms": 1.0, "group_size": 12}, "group_size is 12: give a power of two"),
        (SharedDirections, {"rms": 1.0, "bits": 6}, "bits is 6: give at least 7 for groups of 64"),
    ],
)
def test_fields_are_checked(kind: type[Compressor], fields: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        kind(**fields)


def test_hostile_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 16 entries of a codebook for each of the 10"):
        grouping(((1, 10),), (64,), bits=12)
    cut = grouping(((8, 8),), (8,), bits=4)
    payload = SharedRoundingPayload(cut, 1, 1.0, *torch.ones(3, 1, dtype=torch.int64))
    frame = encode(Message({"v": payload}))
    assert isinstance(decode(frame).payloads["v"], SharedRoundingPayload)
    layers, form = b"\x01\x08\x08\x03", b"\x95\x04\x03\x01\x00\x01"
    assert frame.count(layers) == frame.count(form) == 1

    def refused(old: bytes, new: bytes, said: str) -> None:
        with pytest.raises(WireError, match=said):
            decode(frame.replace(old, new))

    refused(form, b"\x95\x0c\x03\x01\x00\x01", r"v\.layers: directions of 12 bits in 8 entries")
    refused(form, b"\x95\x04\x04\x01\x00\x01", r"v\.form\.interleaved: ")
    refused(form, b"\x95\x04\x03\x01\x01\x01", r"v\.form\.worker_id: ")
    refused(form, b"\x94\x04\x03\x01\x00", r"v\.form: expected \[bits, interleaved, block, w")
    refused(layers, b"\x01\x08\x08\x09", r"v\.layers: expected groups of 2")
    refused(layers, b"\x02\x08\x08\x03", r"v\.layers: 2 layers of 8 by 8 entries where 64 entries")
    refused(layers, b"\x01\x08\x00\x03", r"v\.layers: 1 layers of 8 by 0 entries where 64 entries")


# -- several workers ---------------------------------------------------------------------------


def workers(compressor: Shared, number: int, shared_seed: int = 5) -> list[Shared]:
    return [
        compressor.bind(
            Context(generator_for(i), shared_seed=shared_seed, worker_id=i, num_workers=number)
        )
        for i in range(number)
    ]


def mean_of(bound: list[Shared], vectors: list[Tensor]) -> Tensor:
    pairs = zip(bound, vectors, strict=True)
    draws = [one.compress(vector, generator=generator_for(0)) for one, vector in pairs]
    return torch.stack([dense(received(draw)) for draw in draws]).mean(dim=0)


@LAYOUTS
@pytest.mark.parametrize("number", [2, 5, 8])
def test_the_mean_of_like_vectors_is_within_a_step_over_the_workers(
    layout: str, number: int
) -> None:
    compressor = SharedThresholds(
        step=2.5,
        layout=layout,  # type: ignore[arg-type]
        block=3,
        coordinated=True,
    )
    vector = torch.randn(200, generator=generator_for(2)) * 3
    for seed in range(20):
        mean = mean_of(workers(compressor, number, seed), [vector] * number)
        assert float((mean - vector).abs().max()) <= 2.5 / number * (1 + 1e-5)


@pytest.mark.parametrize(
    "compressor",
    [
        SharedThresholds(rms=6.0, coordinated=True),
        pytest.param(
            SharedDirections(rms=12.0, group_size=8, bits=6, coordinated=True),
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_every_worker_stays_unbiased_and_the_mean_is_better(compressor: Shared) -> None:
    """Over the rounds' seeds, of a worker and of all four together, with vectors that are alike."""
    base, rounds = torch.randn(128, generator=generator_for(3)), 1500
    vectors = [base + 0.2 * torch.randn(128, generator=generator_for(4, i)) for i in range(4)]
    first, errors, alone = torch.zeros(128), 0.0, 0.0
    for seed in range(rounds):
        bound = workers(compressor, 4, seed)
        draws = [
            dense(one.compress(vector, generator=generator_for(seed)))
            for one, vector in zip(bound, vectors, strict=True)
        ]
        first += draws[1] / rounds
        off = torch.stack(draws).mean(dim=0) - torch.stack(vectors).mean(dim=0)
        errors += squared(off) / rounds
        alone += sum(squared(d - v) for d, v in zip(draws, vectors, strict=True)) / 16 / rounds
    assert squared(first - vectors[1]) < 3 * 4 * alone / rounds
    assert errors < 0.75 * alone


def test_workers_have_directions_of_their_own() -> None:
    bound = workers(SharedDirections(rms=40.0, coordinated=True), 2)
    vector = torch.randn(4096, generator=generator_for(1))
    one, other = (c.compress(vector, generator=generator_for(0)) for c in bound)
    assert isinstance(one, SharedRoundingPayload)
    assert isinstance(other, SharedRoundingPayload)
    assert one.seed == other.seed
    books = [codebook(one.seed, payload.grouping, 64) for payload in (one, other)]
    assert not np.allclose(books[0], books[1])


def test_who_draws_alone_is_not_coordinated() -> None:
    compressor = SharedThresholds(rms=6.0, coordinated=True)
    for context in (
        Context(generator_for(0)),
        Context(generator_for(0), worker_id=-1, num_workers=8),
    ):
        assert compressor.bind(context).drawing is None
    with pytest.raises(ValueError, match="worker 3 of 3 with 1 layers: give one of the workers"):
        Grouping(
            shapes=((1, 4),),
            group_sizes=(1,),
            bits=1,
            block=1,
            interleaved_entries=True,
            interleaved_groups=True,
            worker_id=3,
            num_workers=3,
        )
