"""DIANA and Rand-DIANA: linear convergence, shifts, limits, partial participation."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Identity, Induced, PermK, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.laws import CostAwareLaw, OwnLaw
from mlmc_ray.methods import SERVER, CompressedSGD, DataParallelSGD, Method
from mlmc_ray.methods.partial_participation import PartialParticipation
from mlmc_ray.methods.shifts.diana import DIANA, RandDIANA
from mlmc_ray.payloads import DensePayload, Message
from tests.mlmc_ray.driver import Run, oracles_of
from tests.mlmc_ray.finite_sums import FiniteSums
from tests.mlmc_ray.method_checks import (
    SMALL,
    STANDARD,
    assert_continues_exactly,
    contraction,
    gradients,
    optimum_of,
    run_of,
    setting_of,
)

INDUCED = Induced(contractive=TopK(k=2), correction=RandK(k=2))
SEGMENTS = MLMC(ladder=SegmentedTopKLadder(segment_size=2))
BITS = MLMC(ladder=FixedPointLadder(), law=OwnLaw())
ONE_LEVEL: list[Compressor] = [
    MLMC(ladder=SegmentedTopKLadder(segment_size=8)),
    MLMC(ladder=SegmentedTopKLadder(segment_size=100)),
]


def test_the_step_size_of_theory() -> None:
    """L = 4.2328 and L_max = 10 there; Rand-12 of 24 has omega = 1."""
    for method in (DIANA(compressor=RandK(k=12)), RandDIANA(compressor=RandK(k=12))):
        step = method.theory(setting_of(STANDARD))
        assert step.value == pytest.approx(1 / (4.232793 + 6 * 1 * 10 / 8), rel=1e-6)


@pytest.mark.slow
def test_linear_convergence_on_the_standard_problem() -> None:
    method = DIANA(compressor=RandK(k=12))
    step_size = method.theory(setting_of(STANDARD)).value
    bound = max(1 - step_size * STANDARD.smoothness[0], 1 - 0.5 / 2)
    assert contraction(method, STANDARD, step_size, seeds=5) <= bound * 1.01


@pytest.mark.parametrize(
    ("compressor", "seeds"),
    [
        (RandK(k=4), 5),
        pytest.param(SEGMENTS, 2, marks=pytest.mark.slow),
        pytest.param(BITS, 1, marks=pytest.mark.slow),
        pytest.param(INDUCED, 2, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [DIANA, RandDIANA])
def test_linear_convergence(
    kind: type[DIANA] | type[RandDIANA], compressor: Compressor, seeds: int
) -> None:
    omega = compressor.omega(8)
    assert omega is not None
    method = kind(compressor=compressor)
    step_size = method.theory(setting_of(SMALL)).value
    bound = max(1 - step_size * SMALL.smoothness[0], 1 - 0.5 / (1 + omega))
    assert contraction(method, SMALL, step_size, seeds) <= bound * 1.01


@pytest.mark.parametrize(
    "compressor", [SEGMENTS, pytest.param(BITS, marks=pytest.mark.slow)], ids=str
)
def test_without_shifts_mlmc_stalls(compressor: Compressor) -> None:
    """Compressed SGD at the same step stays at the plateau, which DIANA leaves far below."""
    omega = compressor.omega(8)
    assert omega is not None
    step_size = 1 / (SMALL.smoothness[1] + 2 * omega * SMALL.largest / 4)
    optimum = optimum_of(SMALL)
    run = run_of(CompressedSGD(compressor=compressor), SMALL, step_size)
    run.rounds(60)
    late = [float((run.rounds(1) - optimum).square().sum()) for _ in range(40)]
    spread = float(gradients(SMALL, optimum).square().sum(dim=1).mean())
    plateau = 2 * step_size * omega / (SMALL.smoothness[0] * 4) * spread
    assert 1e-3 < sum(late) / len(late) <= plateau


@pytest.mark.parametrize("kind", [DIANA, RandDIANA])
def test_shifts_tend_to_the_gradients_at_the_optimum(
    kind: type[DIANA] | type[RandDIANA],
) -> None:
    run = run_of(kind(compressor=RandK(k=4)), SMALL, 0.15)
    run.rounds(200)
    expected = gradients(SMALL, optimum_of(SMALL))
    assert float(expected.norm()) > 1
    for worker, gradient in zip(run.workers, expected, strict=True):
        torch.testing.assert_close(worker.state_dict()["shift"], gradient, rtol=0, atol=1e-8)


METHODS: list[Method] = [
    DIANA(compressor=RandK(k=3)),
    DIANA(compressor=SEGMENTS, shift_step=0.1),
    RandDIANA(compressor=RandK(k=3), p=0.4),
    PartialParticipation(method=DIANA(compressor=RandK(k=3)), participants=2),
    PartialParticipation(method=RandDIANA(compressor=RandK(k=3), p=0.4), participants=3),
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_server_knows_the_average_of_the_shifts(method: Method) -> None:
    run = run_of(method, SMALL, 0.05)
    for _ in range(25):
        run.round()
        zero = torch.zeros(8, dtype=torch.float64)
        shifts = [worker.state_dict().get("shift", zero) for worker in run.workers]
        average = run.server.state_dict()["shift"]
        torch.testing.assert_close(average, torch.stack(shifts).mean(dim=0), rtol=1e-12, atol=1e-13)
    assert bool(average.any())


@pytest.mark.parametrize("participants", [4, 3])
def test_every_round_is_the_formula(participants: int) -> None:
    """h_i <- h_i + a m_i / p, and x <- x - step (h + sum m_i / (M p)), a = p / (1 + omega)."""
    diana, p = DIANA(compressor=RandK(k=3)), participants / 4
    method = PartialParticipation(method=diana, participants=participants)
    run = run_of(method, SMALL, 0.05)
    shifts, x = torch.zeros(4, 8, dtype=torch.float64), run.x.clone()
    alpha = p / (8 / 3)
    for _ in range(20):
        run.round()
        sent = torch.zeros(4, 8, dtype=torch.float64)
        for i, report in run.reports.items():
            report.payloads["difference"].add_to(sent[i])
        assert len(run.reports) == participants
        x = x - 0.05 * (shifts.mean(dim=0) + sent.sum(dim=0) / (4 * p))
        shifts += alpha * sent / p
        torch.testing.assert_close(run.x, x, rtol=1e-12, atol=1e-13)


def test_without_shift_steps_it_is_compressed_sgd_bit_for_bit() -> None:
    diana = run_of(DIANA(compressor=RandK(k=3), shift_step=0.0), SMALL, 0.05)
    plain = run_of(CompressedSGD(compressor=RandK(k=3)), SMALL, 0.05)
    for _ in range(20):
        assert torch.equal(diana.rounds(1), plain.rounds(1))


@pytest.mark.parametrize("method", [DIANA(compressor=Identity()), RandDIANA(compressor=Identity())])
def test_without_noise_it_is_gradient_descent(method: Method) -> None:
    """Not bit for bit: h + (gradient - h) rounds."""
    diana, descent = run_of(method, SMALL, 0.3), run_of(DataParallelSGD(), SMALL, 0.3)
    for _ in range(30):
        torch.testing.assert_close(diana.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("compressor", ONE_LEVEL, ids=str)
@pytest.mark.parametrize("kind", [DIANA, CompressedSGD])
def test_one_level_is_no_compression(
    kind: type[DIANA] | type[CompressedSGD], compressor: Compressor
) -> None:
    one, whole = (run_of(kind(compressor=c), SMALL, 0.3) for c in (compressor, Identity()))
    for _ in range(20):
        assert torch.equal(one.rounds(1), whole.rounds(1))


SUMS = FiniteSums()


def on_batches(method: Method, step_size: float, seed: int = 0) -> Run:
    """One example a batch, of the six that a worker has."""
    start = torch.ones(SUMS.dim, dtype=torch.float64)
    return Run(method, SUMS.oracles(1, seed), start, step_size, seed)


def test_a_reference_takes_away_the_noise_of_minibatches() -> None:
    plain = on_batches(DIANA(compressor=RandK(k=4)), 0.05).rounds(700)
    assert float((plain - SUMS.optimum).square().sum()) > 1e-4
    for seed in range(2):
        method = DIANA(compressor=RandK(k=4), refresh=1 / 6)
        run = on_batches(method, 0.05, seed)
        assert float((run.rounds(700) - SUMS.optimum).square().sum()) < 1e-20


def test_every_round_with_a_reference_is_the_formula() -> None:
    run = on_batches(DIANA(compressor=Identity(), shift_step=0.5, refresh=0.3), 0.02)
    oracles, references, moves = run._oracles, [run.x.clone()] * 4, set()
    for _ in range(30):
        x = run.x.clone()
        estimate = run.estimate()
        mean = torch.zeros(8, dtype=torch.float64)
        for oracle, reference in zip(oracles, references, strict=True):
            everything, batch = torch.arange(6), oracle.drawn[0]
            moved = oracle.gradient(x, batch) - oracle.gradient(reference, batch)
            mean += (moved + oracle.gradient(reference, everything)) / 4
            oracle.drawn.clear()
        torch.testing.assert_close(estimate, mean, rtol=1e-12, atol=1e-13)
        held = [worker.state_dict()["reference"] for worker in run.workers]
        moves.add(tuple(torch.equal(new, x) for new in held))
        assert all(
            torch.equal(h, x) or torch.equal(h, r) for h, r in zip(held, references, strict=True)
        )
        references = held
    assert moves == {(True,) * 4, (False,) * 4}  # all toss the same coin


def test_with_full_batches_a_reference_changes_nothing() -> None:
    plain, referring = (
        run_of(DIANA(compressor=RandK(k=4), refresh=refresh), SMALL, 0.05)
        for refresh in (None, 0.5)
    )
    for _ in range(30):
        torch.testing.assert_close(plain.rounds(1), referring.rounds(1), rtol=1e-12, atol=1e-13)


def test_a_run_with_a_reference_continues_exactly() -> None:
    assert_continues_exactly(DIANA(compressor=RandK(k=4), refresh=0.5), SMALL, 5)


def test_the_step_size_with_a_reference() -> None:
    """Rand-4 of 8 has omega = 1; 6 examples a worker, and four workers."""
    method, setting = DIANA(compressor=RandK(k=4), refresh=1 / 6), SUMS.setting(1)
    sample = setting.constants.sample_smoothness
    assert sample is not None
    step = method.theory(setting)
    expected = 1 / (10 * 2 * sample * math.sqrt(1 + 1 / 4) * (6 ** (2 / 3) + 2))
    assert step.value == pytest.approx(expected, rel=1e-12)
    unlike = replace(setting, constants=replace(setting.constants, convex=False))
    assert method.theory(unlike) == step
    unknown = replace(setting, constants=replace(setting.constants, sample_smoothness=None))
    with pytest.raises(ValueError, match="smoothness of single examples is not known"):
        method.theory(unknown)
    for refresh in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"^refresh is .*: give 1 / m for m examples of a wor"):
            DIANA(compressor=RandK(k=4), refresh=refresh)


def test_everyone_taking_part_changes_nothing() -> None:
    for diana in (DIANA(compressor=RandK(k=3)), RandDIANA(compressor=RandK(k=3))):
        run = run_of(diana, SMALL, 0.05)
        wrapped = run_of(PartialParticipation(method=diana, participants=4), SMALL, 0.05)
        for _ in range(15):
            assert torch.equal(run.rounds(1), wrapped.rounds(1))


@pytest.mark.parametrize("participants", [1, 2, 3])
def test_the_estimate_of_participants_is_unbiased(participants: int) -> None:
    """Exactly: over all subsets of workers, for shifts that are not zero."""
    draws = torch.Generator().manual_seed(3)
    sent = torch.randn(4, 8, dtype=torch.float64, generator=draws)
    shift = torch.randn(8, dtype=torch.float64, generator=draws)
    run = run_of(DIANA(compressor=RandK(k=3)), SMALL, 0.05)
    context = replace(run.context(SERVER), participation=participants / 4)
    subsets = list(itertools.combinations(range(4), participants))
    mean = torch.zeros(8, dtype=torch.float64)
    for subset in subsets:
        run.server.load_state_dict({"shift": shift})
        reports = {i: Message({"difference": DensePayload(sent[i])}) for i in subset}
        estimate = run.server.step(reports, context=context)
        assert isinstance(estimate, Tensor)
        mean += estimate / len(subsets)
    torch.testing.assert_close(mean, shift + sent.mean(dim=0), rtol=1e-12, atol=1e-13)


def test_some_participants_converge_linearly() -> None:
    """With omega' = (1 + omega) / p - 1 for omega."""
    omega = (1 + 1) / 0.5 - 1
    mu, smoothness, _ = SMALL.smoothness
    step_size = 1 / (smoothness + 6 * omega * SMALL.largest / 4)
    for diana in (DIANA(compressor=RandK(k=4)), RandDIANA(compressor=RandK(k=4))):
        method = PartialParticipation(method=diana, participants=2)
        assert contraction(method, SMALL, step_size) <= (1 - step_size * mu) * 1.01


def test_a_shift_is_replaced_as_often_as_p_says() -> None:
    """Each of 800 coins shows "change" with probability 0.3; Hoeffding, 1e-9."""
    margin = math.sqrt(math.log(2 / 1e-9) / (2 * 800))
    assert margin < 0.12
    run = run_of(RandDIANA(compressor=RandK(k=4), p=0.3), SMALL, 0.05)
    at_once, count = set(), 0
    for _ in range(200):
        before = [w.state_dict().get("shift", torch.zeros(8).double()) for w in run.workers]
        gradient = gradients(SMALL, run.x)
        run.round()
        changed = {i for i, report in run.reports.items() if "change" in report.payloads}
        at_once.add(len(changed))
        count += len(changed)
        for i, worker in enumerate(run.workers):
            expected = gradient[i] if i in changed else before[i]
            assert torch.equal(worker.state_dict()["shift"], expected)
    assert abs(count / 800 - 0.3) <= margin
    assert len(at_once) > 2  # each worker has a coin of its own


def test_p_by_theory_is_1_over_1_plus_omega() -> None:
    run = run_of(RandDIANA(compressor=RandK(k=4)), SMALL, 0.05)
    count = 0
    for _ in range(200):
        run.round()
        count += sum("change" in report.payloads for report in run.reports.values())
    assert abs(count / 800 - 0.5) <= 0.12


def test_induced_by_the_identity_is_gradient_descent() -> None:
    compressor = Induced(contractive=Identity(), correction=RandK(k=2))
    for method in (CompressedSGD(compressor=compressor), DIANA(compressor=compressor)):
        run, descent = run_of(method, SMALL, 0.3), run_of(DataParallelSGD(), SMALL, 0.3)
        for _ in range(15):
            torch.testing.assert_close(run.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


def test_the_plateau_of_induced_is_lower_than_of_the_correction_alone() -> None:
    def plateau(compressor: Compressor) -> float:
        run = run_of(CompressedSGD(compressor=compressor), SMALL, 0.2)
        run.rounds(100)
        optimum = optimum_of(SMALL)
        return sum(float((run.rounds(1) - optimum).square().sum()) for _ in range(100)) / 100

    assert plateau(INDUCED) < 0.5 * plateau(RandK(k=2))


def test_traffic() -> None:
    """C up and d down; with the change, d more up."""
    for method, names in (
        (DIANA(compressor=RandK(k=3)), {"difference"}),
        (RandDIANA(compressor=RandK(k=3), p=1.0), {"difference", "change"}),
    ):
        run = run_of(method, SMALL, 0.05)
        news = run.server.news(context=run.context(SERVER))
        assert isinstance(news, Message)
        assert {name: payload.dim for name, payload in news.payloads.items()} == {"parameters": 8}
        run.round()
        for report in run.reports.values():
            assert {name: p.dim for name, p in report.payloads.items()} == dict.fromkeys(names, 8)
            assert report.payloads["difference"].to_dense().count_nonzero() == 3


@pytest.mark.parametrize("rounds", [0, 6])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_saved_halves_continue_exactly(method: Method, rounds: int) -> None:
    assert_continues_exactly(method, SMALL, rounds)


def test_a_compressor_bound_to_workers_also_serves_the_server() -> None:
    assert_continues_exactly(DIANA(compressor=PermK()), SMALL, 3)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^diana needs an unbiased compressor"):
        DIANA(compressor=TopK(k=1))
    with pytest.raises(ValueError, match=r"^rand-diana needs an unbiased compressor"):
        RandDIANA(compressor=TopK(k=1))
    with pytest.raises(ValueError, match=r"shift_step is 1\.5: give a number at least 0 and at"):
        DIANA(compressor=RandK(k=1), shift_step=1.5)
    with pytest.raises(ValueError, match=r"p is 0\.0: give a number above 0 and at most 1"):
        RandDIANA(compressor=RandK(k=1), p=0.0)
    for shift_step in (0.0, 0.9):
        with pytest.raises(ValueError, match=r"at most 1 / .1 \+ omega., here 0\.5"):
            DIANA(compressor=RandK(k=4), shift_step=shift_step).theory(setting_of(SMALL))


def test_without_omega_a_shift_step_must_be_given() -> None:
    compressor = MLMC(ladder=SegmentedTopKLadder(segment_size=2), law=CostAwareLaw())
    assert compressor.omega(8) is None
    run = run_of(DIANA(compressor=compressor), SMALL, 0.05)
    with pytest.raises(ValueError, match=r"no omega is known of it.*give numbers for those"):
        run.round()
    run_of(DIANA(compressor=compressor, shift_step=0.2), SMALL, 0.05).rounds(3)


def test_a_report_of_another_method_changes_nothing() -> None:
    run = Run(RandDIANA(compressor=Identity(), p=1.0), oracles_of(SMALL), torch.ones(8).double(), 0)
    run.rounds(2)
    before = run.server.state_dict()
    short = DensePayload(torch.zeros(3))
    bad = {i: Message({**r.payloads, "change": short}) for i, r in run.reports.items()}
    with pytest.raises(ValueError, match="change has 3 entries"):
        run.server.step(bad, context=run.context(SERVER))
    after = run.server.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
