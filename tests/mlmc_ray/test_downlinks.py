"""EF21-P with and without DIANA, and EF21-BC: everyone keeps the same point."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import FixedPoint, Identity, PermK, RandK, SegmentedTopK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.methods import SERVER, Method, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.compressed_sgd import DataParallelSGD
from mlmc_ray.methods.downlinks.docofl import DoCoFL
from mlmc_ray.methods.downlinks.ef21_bc import EF21BC
from mlmc_ray.methods.downlinks.ef21_p import EF21P, EF21PDIANA
from mlmc_ray.methods.downlinks.marina_p import M3, MarinaP
from mlmc_ray.methods.error_feedback.ef21 import EF21SGDM
from mlmc_ray.methods.partial_participation import PartialParticipation
from mlmc_ray.methods.shifts.diana import DIANA
from mlmc_ray.payloads import Message
from tests.mlmc_ray.driver import Run, oracles_of
from tests.mlmc_ray.method_checks import (
    SMALL,
    STANDARD,
    assert_continues_exactly,
    contraction,
    setting_of,
)
from tests.mlmc_ray.recording import Recording, entries

ORACLES = oracles_of(STANDARD)
START = torch.ones(24, dtype=torch.float64)
SETTING = setting_of(STANDARD)
MU, L = SETTING.constants.strong_convexity, SETTING.constants.smoothness


def run_of(method: Method) -> Run:
    return Run(method, ORACLES, START, 0.02)


def assert_same_path(one: Run, other: Run, rounds: int = 40) -> None:
    """Compare up to rounding: g + (h - g) and w + (x - w) round where the other has h and x."""
    for _ in range(rounds):
        torch.testing.assert_close(one.rounds(1), other.rounds(1), rtol=1e-12, atol=1e-13)


# EF21-P.


def test_ef21_p_converges_linearly_with_the_step_of_theory() -> None:
    method = EF21P(downlink=TopK(k=12))
    step_size = method.theory(SETTING).value
    ratio = math.sqrt(0.5) / (1 - math.sqrt(0.5))
    assert step_size == pytest.approx(1 / (L + L * math.sqrt(2) * ratio), rel=1e-12)
    assert contraction(method, STANDARD, step_size) <= 1 - step_size * MU


def test_ef21_p_without_strong_convexity_allows_a_longer_step() -> None:
    method = EF21P(downlink=TopK(k=12))
    ratio = math.sqrt(0.5) / (1 - math.sqrt(0.5))
    anything = replace(SETTING.constants, strong_convexity=0.0)
    step = method.theory(replace(SETTING, constants=anything))
    assert step.value == pytest.approx(1 / (L + L * ratio), rel=1e-12)
    assert "L~" not in step.formula


DOWNLINKS: list[Compressor] = [
    TopK(k=3),
    SegmentedTopK(k=1, segment_size=5, contiguous=True),
    FixedPoint(planes=2),
    RandK(k=4, scaled=False),
]


@pytest.mark.parametrize("downlink", DOWNLINKS, ids=str)
@pytest.mark.parametrize("compressor", [None, RandK(k=6)], ids=str)
def test_everyone_has_the_same_copy_and_lacks_less_after_the_news(
    downlink: Compressor, compressor: Compressor | None
) -> None:
    method = (
        EF21PDIANA(compressor=compressor, downlink=downlink)
        if compressor
        else EF21P(downlink=downlink)
    )
    run = run_of(method)
    run.round()
    for _ in range(20):
        point, before = run.x.clone(), run.server.state_dict()["copy"]
        run.round()
        copy = run.server.state_dict()["copy"]
        assert all(torch.equal(w.state_dict()["parameters"], copy) for w in run.workers)
        if not isinstance(downlink, RandK):  # whose contraction is one of the mean
            alpha = downlink.alpha(24)
            assert alpha is not None
            lacking, left = point - before, point - copy
            assert left.square().sum() <= (1 - alpha) * lacking.square().sum() * (1 + 1e-12)


def test_an_exact_downlink_is_the_method_of_the_uplink() -> None:
    assert_same_path(run_of(EF21P(downlink=Identity())), run_of(DataParallelSGD()))
    compressor = RandK(k=4)
    both = EF21PDIANA(compressor=compressor, downlink=Identity())
    assert_same_path(run_of(both), run_of(DIANA(compressor=compressor)))
    slow = EF21PDIANA(compressor=compressor, downlink=Identity(), shift_step=0.05)
    assert_same_path(run_of(slow), run_of(DIANA(compressor=compressor, shift_step=0.05)))


def test_an_exact_uplink_is_ef21_p() -> None:
    both = EF21PDIANA(compressor=Identity(), downlink=TopK(k=4))
    assert_same_path(run_of(both), run_of(EF21P(downlink=TopK(k=4))))


UPLINKS: list[Any] = [
    RandK(k=3),
    MLMC(ladder=SegmentedTopKLadder(segment_size=2)),
    pytest.param(MLMC(ladder=FixedPointLadder(), law=OwnLaw()), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("compressor", UPLINKS, ids=str)
def test_ef21_p_with_diana_converges_linearly_where_optima_differ(compressor: Compressor) -> None:
    """With a step far above the careful one of theory, whose rate nobody has proved."""
    method = EF21PDIANA(compressor=compressor, downlink=TopK(k=6), shift_step=0.1)
    assert method.theory(setting_of(SMALL)).value < 0.1 / 10
    assert contraction(method, SMALL, 0.1) <= 1 - 0.1 * SMALL.smoothness[0] / 2


def test_the_step_of_ef21_p_with_diana_is_the_least_of_its_bounds() -> None:
    omega, alpha, largest = 23.0, 0.5, STANDARD.largest
    rare = EF21PDIANA(compressor=RandK(k=1), downlink=TopK(k=12)).theory(SETTING)
    assert rare.value == pytest.approx(
        min(
            8 / (160 * omega * largest),
            math.sqrt(8 * alpha) / (20 * math.sqrt(omega) * largest),
            alpha / (100 * L),
            1 / ((1 + omega) * MU),
        ),
        rel=1e-12,
    )
    exact = EF21PDIANA(compressor=Identity(), downlink=TopK(k=6)).theory(SETTING)
    assert exact.value == pytest.approx(0.25 / (100 * L), rel=1e-12)


# EF21-BC.


def bc_step(up: float, down: float) -> float:
    """The specification's formula, written out for contractions ``up`` and ``down``."""

    def ratio(alpha: float) -> float:
        root = math.sqrt(1 - alpha)
        return (1 - alpha) / (1 - root) / (1 - root)

    spill = 2 * (1 + math.sqrt(1 - up)) ** 2 * ratio(down)
    total = ratio(up) * (1 + spill) + spill
    return 1 / (L + SETTING.constants.mean_smoothness * math.sqrt(2 * total))


def test_ef21_bc_converges_linearly_with_the_step_of_theory() -> None:
    method = EF21BC(compressor=TopK(k=20), downlink=TopK(k=20)).with_theory(SETTING)
    assert isinstance(method, EF21BC)
    step_size = method.step_size
    assert step_size == pytest.approx(bc_step(20 / 24, 20 / 24), rel=1e-12)
    assert isinstance(step_size, float)
    assert contraction(method, STANDARD, 0.0) <= 1 - step_size * MU


def test_ef21_bc_converges_with_ten_times_the_step() -> None:
    method = EF21BC(compressor=TopK(k=2), downlink=TopK(k=2), step_size=0.05)
    assert method.theory(setting_of(SMALL)).value < 0.05 / 10
    assert contraction(method, SMALL, 0.0) <= 1 - 0.05 * SMALL.smoothness[0]


def test_an_exact_downlink_of_ef21_bc_is_ef21() -> None:
    method = EF21BC(compressor=TopK(k=4), downlink=Identity(), step_size=0.02)
    assert_same_path(run_of(method), run_of(EF21SGDM(compressor=TopK(k=4), momentum=1.0)))
    plain = EF21BC(compressor=Identity(), downlink=Identity(), step_size=0.02)
    assert_same_path(run_of(plain), run_of(DataParallelSGD()))


def test_everyone_takes_the_same_step() -> None:
    method = EF21BC(compressor=TopK(k=4), downlink=RandK(k=5, scaled=False), step_size=0.02)
    run = run_of(method)
    for _ in range(20):
        assert run.round() is None
        server = run.server.state_dict()
        for worker in run.workers:
            state = worker.state_dict()
            assert torch.equal(state["parameters"], run.x)
            assert torch.equal(state["direction"], server["direction"])
        known = torch.stack([w.state_dict()["uplink known"] for w in run.workers]).mean(dim=0)
        torch.testing.assert_close(server["known"], known, rtol=1e-12, atol=1e-12)


def test_the_first_round_of_ef21_bc_tells_everyone_where_to_start() -> None:
    run = run_of(EF21BC(compressor=TopK(k=4), downlink=TopK(k=5), step_size=0.02))
    first = run.server.news(context=run.context(SERVER))
    assert isinstance(first, Message)
    assert list(first.payloads) == ["parameters"]
    reports = {
        i: worker.step(first, ORACLES[i], context=run.context(i))
        for i, worker in enumerate(run.workers)
    }
    assert run.server.step(reports, context=run.context(SERVER)) is Progress.MORE
    assert torch.equal(run.x, START)
    second = run.server.news(context=run.context(SERVER, 1))
    assert isinstance(second, Message)
    assert list(second.payloads) == ["change"]


@pytest.mark.parametrize("step_size", [0.0, -1.0, math.inf, math.nan])
def test_a_step_size_that_is_none_is_refused(step_size: float) -> None:
    with pytest.raises(ValueError, match=r"step_size is .*: give a number above 0"):
        EF21BC(compressor=TopK(k=4), downlink=TopK(k=4), step_size=step_size)


def test_a_step_size_of_theory_is_replaced_before_use() -> None:
    method = EF21BC(compressor=TopK(k=4), downlink=TopK(k=4))
    with pytest.raises(ValueError, match="step_size is 'theory'"):
        method.worker()


# All methods that have a downlink of their own.

METHODS: list[Method] = [
    EF21P(downlink=TopK(k=5)),
    EF21PDIANA(compressor=RandK(k=6), downlink=TopK(k=5)),
    EF21BC(compressor=TopK(k=6), downlink=RandK(k=5, scaled=False), step_size=0.02),
    MarinaP(downlink=RandK(k=6)),
    MarinaP(),
    M3(compressor=RandK(k=6), mixing=0.5),
    M3(compressor=MLMC(ladder=SegmentedTopKLadder(segment_size=6))),
    DoCoFL(compressor=RandK(k=6), correction=RandK(k=6), anchor_rounds=3),
    PartialParticipation(
        method=DoCoFL(compressor=RandK(k=6), anchor_rounds=2, anchors_alive=2), participants=8
    ),
]


@pytest.mark.parametrize("rounds", [0, 1, 8])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_halves_that_were_saved_and_loaded_continue_exactly(method: Method, rounds: int) -> None:
    assert_continues_exactly(method, STANDARD, rounds)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_server_moves_its_own_parameters(method: Method) -> None:
    """What is sent at first is x_0 itself, and no half keeps a piece of the server's memory."""
    run = run_of(method)
    news = run.server.news(context=run.context(SERVER))
    message = news if isinstance(news, Message) else news[0]
    assert message.payloads["parameters"].to_dense().data_ptr() == run.x.data_ptr()
    run = run_of(method)
    run.rounds(3)
    owned = run.x.data_ptr()
    halves: list[ServerHalf | WorkerHalf] = [run.server, *run.workers]
    for half in halves:
        assert all(tensor.data_ptr() != owned for tensor in half.state_dict().values())


def traffic(method: Method, rounds: int) -> list[tuple[dict[str, int], dict[str, int]]]:
    """Return the entries of worker 0's news and report in the last exchange of every round."""
    run = Recording(method, STANDARD)
    lines = []
    for _ in range(rounds):
        run.round()
        lines.append((entries(run.news[0]), entries(run.reports[0])))
    return lines


def test_traffic_is_one_compressed_vector_each_way_after_the_first_round() -> None:
    first, *later = traffic(EF21P(downlink=TopK(k=5)), 4)
    assert first == ({"parameters": 24}, {"gradient": 24})
    assert later == [({"change": 5}, {"gradient": 24})] * 3
    first, *later = traffic(EF21PDIANA(compressor=RandK(k=6), downlink=TopK(k=5)), 4)
    assert first == ({"parameters": 24}, {"difference": 6})
    assert later == [({"change": 5}, {"difference": 6})] * 3
    lines = traffic(EF21BC(compressor=TopK(k=6), downlink=TopK(k=5), step_size=0.02), 4)
    assert lines == [({"change": 5}, {"change": 6})] * 4


def mlmc() -> Compressor:
    return MLMC(ladder=SegmentedTopKLadder(segment_size=6))


REFUSED = [
    (
        lambda: EF21P(downlink=mlmc()),
        r"^downlink is MLMC\(.*\): ef21-p needs a contractive compressor",
    ),
    (
        lambda: EF21PDIANA(compressor=mlmc(), downlink=RandK(k=2)),
        "^downlink is RandK.*: ef21-p-diana needs a contractive compressor, .* into marina-p",
    ),
    (lambda: EF21PDIANA(compressor=TopK(k=2), downlink=TopK(k=2)), "diana needs an unbiased"),
    (
        lambda: EF21BC(compressor=mlmc(), downlink=TopK(k=2)),
        "^compressor is MLMC.*: ef21-bc needs a contractive",
    ),
    (
        lambda: EF21BC(compressor=TopK(k=2), downlink=mlmc()),
        "^downlink is MLMC.*: ef21-bc needs a contractive compressor",
    ),
    (
        lambda: MarinaP(downlink=TopK(k=2)),
        "marina-p needs an unbiased downlink, and TopK.* it: downlink: {kind: mlmc",
    ),
    (lambda: MarinaP(p=0.0), r"p is 0\.0: give a number above 0"),
    (lambda: M3(compressor=TopK(k=2)), "marina needs an unbiased"),
    (lambda: M3(compressor=PermK(), downlink=TopK(k=2)), "m3 needs an unbiased downlink"),
    (lambda: M3(compressor=PermK(), p=2.0), r"p is 2\.0"),
    (lambda: M3(compressor=PermK(), downlink_p=2.0), r"downlink_p is 2\.0"),
    (lambda: M3(compressor=PermK(), mixing=0.0), r"mixing is 0\.0"),
    (lambda: DoCoFL(compressor=TopK(k=2)), "docofl needs an unbiased"),
    (lambda: DoCoFL(compressor=mlmc(), anchor_rounds=0), "anchor_rounds is 0: give at least 1"),
    (lambda: DoCoFL(compressor=mlmc(), anchors_alive=0), "anchors_alive is 0: give at least 1"),
]


@pytest.mark.parametrize(("make", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_settings_that_do_not_fit_are_refused(make: object, text: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("method", METHODS[:7], ids=str)
def test_a_worker_that_was_away_could_not_go_on(method: Method) -> None:
    with pytest.raises(ValueError, match="its rounds need every worker"):
        PartialParticipation(method=method, participants=2)


def test_the_memory_of_two_halves_is_kept_apart() -> None:
    run = run_of(METHODS[1])
    run.rounds(2)
    assert set(run.workers[0].state_dict()) == {"parameters", "uplink shift"}
    assert set(run.server.state_dict()) == {"copy", "uplink shift"}
    assert isinstance(run.server.state_dict()["copy"], Tensor)
