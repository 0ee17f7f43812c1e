"""Scaffnew, CompressedScaffnew and TAMUNA: the theorem, what equals what, invariants, traffic."""

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.methods import DataParallelSGD, Method, Progress
from mlmc_ray.methods.local.entry_sharing import EntrySharing
from mlmc_ray.methods.local.scaffnew import CompressedScaffnew, ControlledSteps, Scaffnew
from mlmc_ray.methods.local.tamuna import TAMUNA
from mlmc_ray.methods.theory import Setting
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import seed_for
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of, squared_distances
from tests.mlmc_ray.method_checks import assert_continues_exactly, regularised_optimum

PROBLEM = Quadratic(num_functions=8, dim=24)
ORACLES = oracles_of(PROBLEM)
START = torch.zeros(24, dtype=torch.float64)
CONSTANTS = Constants(
    smoothness=PROBLEM.smoothness[1],
    mean_smoothness=10.0,
    largest_smoothness=10.0,
    least_convexity=0.1,
)
SETTING = Setting(constants=CONSTANTS, dim=24, num_workers=8)
DELTA = 1e-9  # a correct sampler fails a statistical test with at most this probability

METHODS: list[ControlledSteps] = [
    Scaffnew(),
    CompressedScaffnew(),
    CompressedScaffnew(senders=3, damping=0.5),
    TAMUNA(participants=4),
    TAMUNA(participants=5, senders=3),
]
NUMBERS: dict[str, Any] = {"step_size": 0.1, "probability": 0.5}


class Counting(QuadraticOracle):
    """Counts gradients of all workers, in a list that a test empties."""

    gradients: list[int] = []  # noqa: RUF012

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        Counting.gradients.append(1)
        return super().gradient(at, batch)


def counting(oracles: list[QuadraticOracle]) -> list[Counting]:
    return [Counting(oracle.matrix, oracle.vector) for oracle in oracles]


def factor_per_local_step(run: Run, optimum: Tensor) -> float:
    """Run to 1e-20 and return the average factor over the last two thirds of the local steps."""
    Counting.gradients.clear()
    distances, steps = [float((run.x - optimum).square().sum())], [0.0]
    while distances[-1] > 1e-20 * distances[0]:
        assert run.round_index < 2000, f"{distances[-1]:.3g} after {run.round_index} rounds"
        run.round()
        distances.append(float((run.x - optimum).square().sum()))
        steps.append(steps[-1] + len(Counting.gradients) / len(run.reports))
        Counting.gradients.clear()
    start = len(distances) // 3
    factor = (distances[-1] / distances[start]) ** (1 / (steps[-1] - steps[start]))
    return float(factor)


def shrinking(method: ControlledSteps, convexity: float) -> float:
    """The factor of the theorem, per local step."""
    senders = getattr(method, "senders", 8)
    damping = getattr(method, "damping", None) or 8 * (senders - 1) / (senders * 7)
    exchange = float(method.probability) ** 2 * damping * (senders - 1) / 7
    step_size = float(method.step_size)
    return max((1 - step_size * convexity) ** 2, (1 - step_size * 10) ** 2, 1 - exchange)


@pytest.mark.parametrize(
    ("method", "convexity"),
    [
        pytest.param(method, convexity, marks=[pytest.mark.slow] if index not in (0, 2) else [])
        for index, (method, convexity) in enumerate(
            zip(METHODS, [0.1, 0.1, 1.0, 0.1, 1.0], strict=True)
        )
    ],
    ids=str,
)
def test_it_converges_at_the_factor_of_the_theorem_where_optima_differ(
    method: ControlledSteps, convexity: float
) -> None:
    problem = Quadratic(num_functions=8, dim=24, smallest=convexity)
    optimum, oracles = torch.from_numpy(problem.optimum), counting(oracles_of(problem))
    setting = replace(SETTING, constants=replace(CONSTANTS, least_convexity=convexity))
    known = method.with_theory(setting)
    assert isinstance(known, ControlledSteps)
    factor = shrinking(known, convexity)
    runs = [Run(known, oracles, START, 0.0, seed) for seed in range(5)]
    assert sum(factor_per_local_step(run, optimum) for run in runs) / 5 <= 1.01 * factor
    assert f"{factor:.6g} a local step" in method.theory(setting).guarantee
    for worker, oracle in zip(runs[0].workers, oracles, strict=True):
        control = worker.state_dict()["control"]
        torch.testing.assert_close(control, oracle.gradient(optimum, None), rtol=0, atol=1e-7)


def test_the_theorem_holds_exactly_on_average_over_all_draws() -> None:
    """For p = 1, averaged over the 24 ways to choose 3 of 4 workers and their columns.

    E Psi' = sum |w_i - w_i*|^2 + (1 - chi kappa) Psi_h + (chi - nu) V, with w = x - step grad f_i.
    """
    num_workers, step_size, chi, kappa, nu = 4, 0.15, 0.5, 1 / 3, 2 / 3
    problem = Quadratic(num_functions=4, dim=5)
    oracles, optimum = oracles_of(problem), torch.from_numpy(problem.optimum)
    method = TAMUNA(participants=3, step_size=step_size, probability=1.0, damping=chi)
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(5, dtype=torch.float64, generator=draws)
    controls = torch.randn(num_workers, 5, dtype=torch.float64, generator=draws)
    controls -= controls.mean(0)
    best = torch.stack([oracle.gradient(optimum, None) for oracle in oracles])

    def psi_of_controls(now: Tensor) -> float:
        return step_size**2 / (chi * kappa) * float((now - best).square().sum())

    seen: dict[tuple[tuple[int, int], ...], float] = {}
    for seed in itertools.count():
        columns = method.sharing.columns(seed_for(seed, "shared", 0), num_workers)
        if tuple(columns.items()) in seen:
            continue
        run = Run(method, oracles, start, 0.0, seed)
        for worker, control in zip(run.workers, controls, strict=True):
            worker.load_state_dict({"control": control})
        run.round()
        now = torch.stack([worker.state_dict()["control"] for worker in run.workers])
        distance = num_workers * float((run.x - optimum).square().sum())
        seen[tuple(columns.items())] = distance + psi_of_controls(now)
        if len(seen) == 24:
            break
    steps = torch.stack([start - step_size * oracle.gradient(start, None) for oracle in oracles])
    ends = steps + step_size * controls
    spread = float((ends - ends.mean(0)).square().sum())
    expected = float((steps - (optimum - step_size * best)).square().sum())
    expected += (1 - chi * kappa) * psi_of_controls(controls) + (chi - nu) * spread
    assert sum(seen.values()) / 24 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "method",
    [
        Scaffnew(step_size=0.1, probability=1.0),
        CompressedScaffnew(step_size=0.1, probability=1.0, senders=8),
        TAMUNA(step_size=0.1, probability=1.0, senders=8, participants=8),
    ],
    ids=str,
)
def test_one_local_step_from_everyone_is_gradient_descent(method: ControlledSteps) -> None:
    """Not bit for bit: the controls sum to 0 in exact arithmetic only."""
    run, descent = Run(method, ORACLES, START, 0.0), Run(DataParallelSGD(), ORACLES, START, 0.1)
    for _ in range(40):
        torch.testing.assert_close(run.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("method", "other"),
    [
        (CompressedScaffnew(senders=8, **NUMBERS), Scaffnew(**NUMBERS)),
        (
            TAMUNA(senders=3, participants=8, damping=0.4, **NUMBERS),
            CompressedScaffnew(senders=3, damping=0.4, **NUMBERS),
        ),
    ],
    ids=["s = M", "c = M"],
)
def test_the_limits_are_the_other_methods_bit_for_bit(method: Method, other: Method) -> None:
    run, twin = Run(method, ORACLES, START, 0.0), Run(other, ORACLES, START, 0.0)
    for _ in range(30):
        assert torch.equal(run.rounds(1), twin.rounds(1))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_controls_sum_to_zero_after_every_round(method: ControlledSteps) -> None:
    run = Run(replace(method, **NUMBERS), ORACLES, START, 0.0)
    for _ in range(30):
        run.round()
        controls = [w.state_dict()["control"] for w in run.workers if w.state_dict()]
        assert float(torch.stack(controls).sum(0).abs().max()) < 1e-12
    assert float(torch.stack(controls).norm()) > 1


L1 = 0.3


def controls_of(run: Run, step_size: float, probability: float) -> Tensor:
    """The h_i after a round with an l1 norm, (p / gamma) (x - z_i), shape (workers, d)."""
    sent = torch.stack([worker.state_dict()["sent"] for worker in run.workers])
    return probability / step_size * (run.x - sent)


@pytest.mark.parametrize("convexity", [pytest.param(0.1, marks=pytest.mark.slow), 1.0])
def test_with_an_l1_norm_it_converges_at_the_same_factor(convexity: float) -> None:
    problem = Quadratic(num_functions=8, dim=24, smallest=convexity)
    oracles = counting(oracles_of(problem))
    optimum = regularised_optimum(oracles, L1)
    assert 3 < int((optimum == 0).sum()) < 21
    setting = replace(SETTING, constants=replace(CONSTANTS, least_convexity=convexity))
    known = Scaffnew(l1=L1).with_theory(setting)
    assert isinstance(known, Scaffnew)
    runs = [Run(known, oracles, START, 0.0, seed) for seed in range(5)]
    factors = [factor_per_local_step(run, optimum) for run in runs]
    assert sum(factors) / 5 <= 1.01 * shrinking(known, convexity)
    controls = controls_of(runs[0], float(known.step_size), float(known.probability))
    gradients = torch.stack([oracle.gradient(optimum, None) for oracle in oracles])
    torch.testing.assert_close(controls, gradients, rtol=0, atol=1e-7)
    assert float(gradients.mean(0).abs().max()) == pytest.approx(L1)


def test_the_controls_sum_to_a_subgradient_of_the_l1_norm_after_every_round() -> None:
    run = Run(Scaffnew(l1=L1, **NUMBERS), ORACLES, START, 0.0)
    for _ in range(30):
        run.round()
        mean = controls_of(run, **NUMBERS).mean(0)
        moved = run.x != 0
        torch.testing.assert_close(mean[moved], -L1 * run.x[moved].sign(), rtol=1e-10, atol=0)
        assert bool((mean.abs() <= L1 * (1 + 1e-12)).all())
    assert 0 < int(moved.sum()) < 24


def test_of_one_worker_it_is_prox_skip() -> None:
    """x^ = x - gamma (g - h); with p, x = prox(x^ - gamma h / p); h = h + p (x - x^) / gamma."""
    step_size, probability = 0.1, 0.5
    (oracle,) = oracles = counting(oracles_of(Quadratic(num_functions=1, dim=6, largest=5.0)))
    start = torch.ones(6, dtype=torch.float64)
    run = Run(Scaffnew(l1=L1, **NUMBERS), oracles, start, 0.0)
    x, h = start.clone(), torch.zeros_like(start)
    for _ in range(40):
        Counting.gradients.clear()
        run.round()
        for _ in range(len(Counting.gradients)):
            ahead = x - step_size * (oracle.matrix @ x - oracle.vector - h)
            x = ahead
        inner = ahead - step_size / probability * h
        x = inner.sign() * (inner.abs() - step_size / probability * L1).clamp(min=0)
        h = h + probability / step_size * (x - ahead)
        torch.testing.assert_close(run.x, x, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(controls_of(run, **NUMBERS)[0], h, rtol=1e-10, atol=1e-12)
    assert 0 < int((x == 0).sum()) < 6


def test_halves_with_an_l1_norm_that_were_saved_continue_exactly() -> None:
    assert_continues_exactly(Scaffnew(l1=L1, **NUMBERS), PROBLEM, 5)


def test_the_number_of_local_steps_is_geometric_and_the_same_for_everyone() -> None:
    rounds, probability = 2000, 0.4
    oracles = counting([QuadraticOracle(torch.eye(2), torch.ones(2))] * 2)
    method = Scaffnew(step_size=0.5, probability=probability)
    run = Run(method, oracles, torch.zeros(2), 0.0)
    steps: Counter[float] = Counter()
    for _ in range(rounds):
        Counting.gradients.clear()
        run.round()
        steps[len(Counting.gradients) / 2] += 1
    margin = math.sqrt(math.log(2 * 3 / DELTA) / (2 * rounds))
    assert margin < 0.08
    for number in (1, 2, 3):
        expected = probability * (1 - probability) ** (number - 1)
        assert abs(steps[number] / rounds - expected) <= margin


@pytest.mark.parametrize(
    ("num_workers", "participants", "senders", "dim"),
    [
        (8, None, 2, 24),
        (8, None, 3, 25),
        (7, 5, 2, 13),
        (9, 6, 4, 10),
        (5, 4, 4, 3),
        (8, None, 2, 2),
    ],
)
def test_every_entry_is_sent_by_as_many_workers_and_loads_differ_by_one(
    num_workers: int, participants: int | None, senders: int, dim: int
) -> None:
    sharing = EntrySharing(senders=senders, participants=participants)
    size = participants or num_workers
    for seed in range(5):
        columns = sharing.columns(seed, num_workers)
        assert list(columns) == sorted(columns)
        assert sorted(columns.values()) == list(range(size))
        sent = torch.zeros(dim, dtype=torch.int64)
        for column in columns.values():
            load = torch.zeros(dim, dtype=torch.int64)
            load[sharing.entries(column, dim, num_workers)] = 1
            assert int(load.sum()) in (senders * dim // size, -(-senders * dim // size))
            sent += load
        assert bool((sent == senders).all())


def test_participants_and_columns_are_uniform() -> None:
    sharing, draws = EntrySharing(senders=2, participants=3), 5000
    seen = Counter(tuple(sharing.columns(seed, 4).items()) for seed in range(draws))
    margin = math.sqrt(math.log(2 * 24 / DELTA) / (2 * draws))
    assert margin < 0.05
    assert len(seen) == 24
    assert all(abs(number / draws - 1 / 24) <= margin for number in seen.values())


def sizes_of(message: Message) -> dict[str, int]:
    return {name: payload.dim for name, payload in message.payloads.items()}


@pytest.mark.parametrize(
    ("method", "entries"),
    [
        (Scaffnew(**NUMBERS), 24),
        (Scaffnew(l1=L1, **NUMBERS), 24),
        (CompressedScaffnew(**NUMBERS), 6),
    ],
    ids=str,
)
def test_parameters_down_and_entries_up(method: ControlledSteps, entries: int) -> None:
    run = Run(method, ORACLES, START, 0.0)
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, Message)
    assert sizes_of(news) == {"parameters": 24}
    run.round()
    assert [sizes_of(report) for report in run.reports.values()] == [{"entries": entries}] * 8


def test_participants_get_parameters_and_then_what_they_sent_of_the_new_ones() -> None:
    run = Run(TAMUNA(participants=4, **NUMBERS), ORACLES, START, 0.0)
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, dict)
    assert [sizes_of(message) for message in news.values()] == [{"parameters": 24}] * 4
    assert len({id(message) for message in news.values()}) == 1  # so it is encoded once
    reports = {
        i: run.workers[i].step(message, ORACLES[i], context=run.context(i))
        for i, message in news.items()
    }
    assert [sizes_of(report) for report in reports.values()] == [{"entries": 12}] * 4
    assert run.server.step(reports, context=run.context(-1)) is Progress.MORE
    second = run.server.news(context=run.context(-1, 1))
    assert isinstance(second, dict)
    assert [sizes_of(message) for message in second.values()] == [{"entries": 12}] * 4
    assert list(second) == list(news)
    answers = {
        i: run.workers[i].step(message, ORACLES[i], context=run.context(i, 1))
        for i, message in second.items()
    }
    assert all(not sizes_of(answer) for answer in answers.values())
    assert run.server.step(answers, context=run.context(-1, 1)) is Progress.MOVED
    assert all(set(run.workers[i].state_dict()) == {"control"} for i in news)
    assert not run.server.state_dict()


@pytest.mark.parametrize("participants", [None, pytest.param(6, marks=pytest.mark.slow)])
def test_with_fewer_entries_than_workers_some_send_nothing(participants: int | None) -> None:
    problem = Quadratic(num_functions=8, dim=2)
    method = CompressedScaffnew(**NUMBERS)
    if participants:
        method = TAMUNA(participants=participants, **NUMBERS)
    run = Run(method, oracles_of(problem), torch.zeros(2, dtype=torch.float64), 0.0)
    squared_distances(run, torch.from_numpy(problem.optimum), 1e-20, 3000)
    sent = [sizes_of(worker_report) for worker_report in run.reports.values()]
    if not participants:
        assert sent.count({}) == 4
        assert sent.count({"entries": 1}) == 4


def test_the_numbers_of_theory() -> None:
    known = CompressedScaffnew(senders=3, damping=0.5).with_theory(SETTING)
    assert isinstance(known, CompressedScaffnew)
    assert known.step_size == pytest.approx(2 / 10.1)
    rate = 1 - (1 - 0.2 / 10.1) ** 2
    assert known.probability == pytest.approx(math.sqrt(rate / (0.5 * 2 / 7)))
    step = TAMUNA(participants=4, probability=0.25).theory(SETTING)
    assert step.value == known.step_size
    assert step.formula == "2 / (L_max + mu_min), with probability 0.25"
    given = Scaffnew(step_size=0.05, probability=0.5)
    assert given.with_theory(SETTING) is given
    half = Scaffnew(step_size=0.05).with_theory(SETTING)
    assert half == Scaffnew(step_size=0.05, probability=math.sqrt(1 - (1 - 0.05 * 0.1) ** 2))
    assert Scaffnew(step_size=0.05).theory(SETTING).formula.startswith("as given, with probability")


def test_theory_needs_strong_convexity_of_every_function() -> None:
    flat = replace(SETTING, constants=replace(CONSTANTS, least_convexity=0.0))
    with pytest.raises(
        ValueError, match=r"must be strongly convex.*give step_size and probability"
    ):
        Scaffnew().with_theory(flat)


@pytest.mark.parametrize("probability", ["theory", 0.5])
@pytest.mark.parametrize("step_size", [0.2, 5.0])
def test_steps_that_are_too_long_for_theory_are_refused(step_size: float, probability: Any) -> None:
    method = Scaffnew(step_size=step_size, probability=probability)
    with pytest.raises(ValueError, match=rf"step_size is {step_size}: give less than 0\.2, 2 / L"):
        method.theory(SETTING)
    assert Scaffnew(step_size=0.19, probability=probability).theory(SETTING).value == 0.19


def test_one_worker_takes_plain_local_steps() -> None:
    problem = Quadratic(num_functions=1, dim=4)
    start = torch.zeros(4, dtype=torch.float64)
    run = Run(Scaffnew(**NUMBERS), oracles_of(problem), start, 0.0)
    squared_distances(run, torch.from_numpy(problem.optimum), 1e-20, 3000)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Scaffnew, {"step_size": 0.0}, "step_size is 0.0: give a number above 0"),
        (Scaffnew, {"l1": -0.1}, "l1 is -0.1: give the weight of an l1 norm, at least 0"),
        (Scaffnew, {"l1": math.inf}, "l1 is inf"),
        (Scaffnew, {"probability": 1.5}, "probability is 1.5: give a number above 0 and at most 1"),
        (CompressedScaffnew, {"senders": 1}, "senders is 1: at least 2"),
        (CompressedScaffnew, {"damping": 0.0}, "damping is 0.0: give a number above 0"),
        (CompressedScaffnew, {"probability": 0.0}, "probability is 0.0"),
        (TAMUNA, {"participants": 2, "senders": 3}, "participants is 2: give at least as many"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    cls: type[ControlledSteps], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**options)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (CompressedScaffnew(senders=9, **NUMBERS), "senders is 9, and there are 8 workers"),
        (TAMUNA(participants=9, **NUMBERS), "participants is 9, and there are 8 workers"),
        (CompressedScaffnew(damping=0.6, **NUMBERS), "2 senders among 8 .* at most 0.571429"),
    ],
    ids=["senders", "participants", "damping"],
)
def test_settings_that_do_not_fit_the_workers_are_refused(
    method: ControlledSteps, message: str
) -> None:
    run = Run(method, ORACLES, START, 0.0)
    with pytest.raises(ValueError, match=message):
        run.rounds(2)
    with pytest.raises(ValueError, match=message):
        replace(method, probability="theory").with_theory(SETTING)


def test_halves_need_numbers() -> None:
    with pytest.raises(ValueError, match='probability is "theory": put in a number first'):
        Scaffnew(step_size=0.1).worker()


def test_a_report_of_another_size_changes_nothing() -> None:
    run = Run(CompressedScaffnew(**NUMBERS), ORACLES, START, 0.0)
    run.rounds(2)
    before, reports = run.x.clone(), dict(run.reports)
    reports[7] = Message({"entries": DensePayload(START[:5])})
    with pytest.raises(ValueError, match=r"report of worker 7: entries has 5 entries, .* has 6"):
        run.server.step(reports, context=run.context(-1))
    assert torch.equal(run.x, before)
