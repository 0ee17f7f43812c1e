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
    run = TimedRun(adaptive(), H, TAU, sigma=0.5)
    run.round()
    for name, times in (("compute_s", H), ("message_s", TAU)):
        assert run.server.state_dict()[name].tolist() == pytest.approx(times)
    expected = Run(known(), [], 0 * GRADIENT, 0.1)
    expected.workers, expected._oracles = run.workers, run._oracles
    expected.round_index, expected.x = run.round_index, run.x.clone()
    for oracle in run._oracles:
        oracle.draws.manual_seed(3)
    first = expected.estimate().clone()
    for oracle in run._oracles:
        oracle.draws.manual_seed(3)
    assert torch.equal(run.estimate(), first)
    plan = known().plan(3, 1.0)
    assert run.asked == {i: (plan.gradients[i], plan.messages[i]) for i in plan.active}
    assert len(set(run.asked.values())) > 1


def test_the_newest_measurement_pulls() -> None:
    run = TimedRun(adaptive(pull=0.25), (1.0, 1.0), (1.0, 1.0))
    run.round()
    run.h[0], run.tau[1] = 2.0, 5.0
    run.round()
    state = run.server.state_dict()
    assert state["compute_s"].tolist() == pytest.approx([1.25, 1.0])
    assert state["message_s"].tolist() == pytest.approx([1.0, 2.0])


def test_who_rests_is_tried_again() -> None:
    run = TimedRun(adaptive(), (1.0, 1.0, 100.0), (1.0, 1.0, 1.0))
    run.rounds(2)
    assert 2 not in run.asked
    run.h[2] = 1.0
    rested = 0
    while 2 not in run.asked:
        run.round()
        rested += 1
        assert rested < 60
    before = 100 * 0.9**rested
    assert float(run.server.state_dict()["compute_s"][2]) == pytest.approx(0.7 * before + 0.3)


def test_measurements_are_saved_and_newcomers_are_like_the_others() -> None:
    run = TimedRun(adaptive(), H, TAU)
    run.round()
    more = TimedRun(adaptive(), (*H, 1.0), (*TAU, 1.0))
    more.server.load_state_dict(run.server.state_dict())
    more.round_index = 1
    more.round()
    mean = known((*H, sum(H) / 3), (*TAU, sum(TAU) / 3)).plan(4, 1.0)
    assert more.asked == {i: (mean.gradients[i], mean.messages[i]) for i in mean.active}
    fewer = TimedRun(adaptive(), H[:2], TAU[:2])
    fewer.server.load_state_dict(run.server.state_dict())
    fewer.round()
    two = known(H[:2], TAU[:2]).plan(2, 1.0)
    assert fewer.asked == {i: (two.gradients[i], two.messages[i]) for i in two.active}


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
