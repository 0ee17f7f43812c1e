"""Shadowheart SGD with measured times: what is learned of them, and that nothing else changes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import RandK, TopK
from mlmc_ray.methods import SERVER, AdaptiveShadowheart, Progress, Shadowheart
from mlmc_ray.payloads import Message
from tests.mlmc_ray.driver import Run
from tests.mlmc_ray.test_shadowheart import GRADIENT, NoisyOracle

H, TAU = (1.0, 2.0, 5.0), (0.5, 0.25, 3.0)


def adaptive(**changes: Any) -> AdaptiveShadowheart:
    settings: dict[str, Any] = {"compressor": RandK(k=2), "noise": 1.0}
    return AdaptiveShadowheart(**{**settings, **changes})


class TimedRun(Run):
    """A run of workers that take known times."""

    def __init__(
        self, method: Any, h: Sequence[float], tau: Sequence[float], sigma: float = 0.0
    ) -> None:
        super().__init__(method, [NoisyOracle(sigma) for _ in h], 0 * GRADIENT, 0.1)
        self.h, self.tau = list(h), list(tau)
        self.asked: dict[int, tuple[int, int]] = {}  # gradients and messages of the last round

    def _exchange(self, exchange_index: int) -> Tensor | Progress:
        news: Any = self.server.news(context=self.context(SERVER))
        self.asked, reports, elapsed = {}, {}, {}
        for i, message in news.items():
            report = self.workers[i].step(message, self._oracles[i], context=self.context(i))
            gradients, messages = message.scalars["gradients"], message.scalars["messages"]
            self.asked[i] = int(gradients), int(messages)
            reports[i] = replace(report, scalars={"compute_s": self.h[i]})
            elapsed[i] = gradients * self.h[i] + messages * self.tau[i]
        server: Any = self.server
        server.took(elapsed)
        return self.server.step(reports, context=self.context(SERVER))


def known(h: Sequence[float] = H, tau: Sequence[float] = TAU) -> Shadowheart:
    return Shadowheart(compressor=RandK(k=2), compute_s=tuple(h), message_s=tuple(tau), noise=1.0)


def test_at_first_everyone_does_the_least() -> None:
    run = TimedRun(adaptive(), H, TAU)
    run.round()
    assert run.asked == dict.fromkeys(range(3), (1, 1))


def test_with_what_was_measured_it_is_shadowheart() -> None:
    """Once numbers have stopped doubling, for workers all of which have time."""
    h, tau = (1.0, 2.0), (0.5, 0.25)
    run = TimedRun(adaptive(), h, tau, sigma=0.5)
    run.rounds(8)
    for name, times in (("compute_s", h), ("message_s", tau)):
        assert run.server.state_dict()[name].tolist() == pytest.approx(times)
    expected = Run(known(h, tau), [], 0 * GRADIENT, 0.1)
    expected.workers, expected._oracles = run.workers, run._oracles
    expected.round_index = run.round_index
    expected.x.copy_(run.x)
    for oracle in run._oracles:
        oracle.draws.manual_seed(3)
    first = expected.estimate().clone()
    for oracle in run._oracles:
        oracle.draws.manual_seed(3)
    torch.testing.assert_close(run.estimate(), first, rtol=1e-9, atol=0)
    plan = known(h, tau).plan(2, 1.0)
    assert plan.active == [0, 1]
    assert run.asked == {i: (plan.gradients[i], plan.messages[i]) for i in plan.active}
    assert len(set(run.asked.values())) > 1


def test_numbers_at_most_double() -> None:
    """However wrong a first measurement is: here that of a first call, which connects."""
    run = TimedRun(adaptive(compressor=RandK(k=1)), (0.001, 0.001), (2.0, 2.0))
    run.round()
    run.tau = [0.001, 0.001]
    for most in (2, 4, 8):
        run.round()
        assert all(max(numbers) <= most for numbers in run.asked.values())


def test_the_newest_measurement_pulls() -> None:
    run = TimedRun(adaptive(pull=0.25), (1.0, 1.0), (1.0, 1.0))
    run.round()
    run.h[0], run.tau[1] = 2.0, 5.0
    run.round()
    state = run.server.state_dict()
    assert state["compute_s"].tolist() == pytest.approx([1.25, 1.0])
    assert state["message_s"].tolist() == pytest.approx([1.0, 2.0])


def test_who_rests_is_tried_again_when_as_much_time_has_passed() -> None:
    run = TimedRun(adaptive(), (1.0, 1.0, 100.0), (1.0, 1.0, 1.0))
    run.rounds(2)
    assert 2 not in run.asked
    equilibrium_s = known((1.0, 1.0, 100.0), (1.0, 1.0, 1.0)).plan(3, 1.0).equilibrium_s
    rests = 1
    while 2 not in run.asked:
        state = run.server.state_dict()
        assert float(state["rested_s"][2]) == pytest.approx(rests * equilibrium_s)
        run.round()
        rests += 1
    assert rests == math.ceil(100 / equilibrium_s) + 1  # that of the round that asks
    assert run.asked[2] == (1, 1)
    state = run.server.state_dict()
    assert float(state["compute_s"][2]) == pytest.approx(100)
    assert float(state["rested_s"][2]) == 0


def test_a_clock_that_is_wrong_is_bounded_by_what_the_server_saw() -> None:
    run = TimedRun(adaptive(), (1.0, 1.0), (1.0, 1.0))
    run.h = [1e308, 0.0]
    server: Any = run.server
    news: Any = server.news(context=run.context(SERVER))
    reports = {
        i: replace(
            run.workers[i].step(news[i], run._oracles[i], context=run.context(i)),
            scalars={"compute_s": run.h[i]},
        )
        for i in (0, 1)
    }
    server.took({0: 2.0, 1: 2.0})
    server.step(reports, context=run.context(SERVER))
    state = server.state_dict()
    assert state["compute_s"].tolist() == [2.0, 1e-6]
    assert state["message_s"].tolist() == [1e-6, 2.0]


def test_measurements_are_saved() -> None:
    run, other = (TimedRun(adaptive(), H, TAU) for _ in range(2))
    run.rounds(2)
    other.server.load_state_dict(run.server.state_dict())
    other.round_index = run.round_index
    run.round()
    other.round()
    assert other.asked == run.asked


def test_rounds_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^no round is long enough: noise is 1e\+300"):
        Shadowheart(compressor=RandK(k=2), compute_s=1e9, message_s=1e9, noise=1e300).plan(2, 1.0)
    with pytest.raises(ValueError, match=r"^noise is 1e\+308 and omega is 1e\+308: give smaller"):
        TimedRun(adaptive(noise=1e308, omega=1e308), H, TAU).round()


def test_without_a_clock_everyone_goes_on_doing_the_least() -> None:
    run = Run(adaptive(), 2 * [NoisyOracle()], 0 * GRADIENT, 0.1)
    run.rounds(3)
    assert all(len(report.payloads["sum"].parts) == 1 for report in run.reports.values())  # type: ignore[attr-defined]
    assert run.server.state_dict()["compute_s"].isnan().all()


def test_a_worker_reports_how_long_its_gradient_took() -> None:
    run = Run(adaptive(), [NoisyOracle()], 0 * GRADIENT, 0.1)
    run.round()
    assert 0 < run.reports[0].scalars["compute_s"] < 1


@pytest.mark.parametrize("scalars", [{}, {"compute_s": math.nan}, {"compute_s": -1.0}])
def test_a_report_without_seconds_is_refused(scalars: dict[str, float]) -> None:
    run = Run(adaptive(), [NoisyOracle()], 0 * GRADIENT, 0.1)
    run.round()
    report = Message(run.reports[0].payloads, scalars)
    context = run.context(SERVER)
    run.server.news(context=context)
    before = run.server.state_dict()
    with pytest.raises(ValueError, match=r"^report of worker 0: compute_s is .*expected seconds"):
        run.server.step({0: report}, context=context)
    assert all(
        torch.equal(run.server.state_dict()[name], before[name]) or before[name].isnan().all()
        for name in before
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"compressor": TopK(k=1)}, r"adaptive-shadowheart needs an unbiased compressor, and TopK"),
        ({"noise": -1.0}, r"noise is -1\.0: give a number of at least 0"),
        ({"pull": 0.0}, r"pull is 0\.0: give a number above 0 and at most 1"),
        ({"max_messages": 0}, r"max_messages is 0: give 1 to 4096"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        adaptive(**changes)
