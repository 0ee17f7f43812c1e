"""DoCoFL: anchors, corrections, and who holds what."""

from dataclasses import replace

import pytest
import torch

from mlmc_ray.compressors import EDEN, Compressor, Identity, RandK, TopK, bound
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.laws import OwnLaw
from mlmc_ray.methods import SERVER, CompressedSGD, Method
from mlmc_ray.methods.downlinks.docofl import DoCoFL
from mlmc_ray.methods.partial_participation import PartialParticipation
from mlmc_ray.payloads import Message
from tests.mlmc_ray.driver import Run, squared_distances
from tests.mlmc_ray.method_checks import SMALL, STANDARD, optimum_of, run_of
from tests.mlmc_ray.recording import Recording

PLAIN = DoCoFL(compressor=Identity(), anchor_rounds=2)


def recording(method: Method) -> Recording:
    return Recording(method, STANDARD)


def held(run: Run) -> list[int]:
    """The number of every worker's anchor; -1 before its first round."""
    states = [worker.state_dict() for worker in run.workers]
    return [int(state["number"]) if state else -1 for state in states]


def test_exact_corrections_give_the_point_itself() -> None:
    """To rounding: a + (x - a)."""
    for compressor in (Identity(), RandK(k=4)):
        method = DoCoFL(compressor=compressor, correction=Identity(), anchor_rounds=2)
        one = run_of(method, STANDARD, 0.02)
        other = run_of(CompressedSGD(compressor=compressor), STANDARD, 0.02)
        for _ in range(20):
            torch.testing.assert_close(one.rounds(1), other.rounds(1), rtol=1e-12, atol=1e-12)


CORRECTIONS: list[Compressor] = [
    EDEN(bits=1.0),
    RandK(k=6),
    TopK(k=3),
    MLMC(ladder=SegmentedTopKLadder(segment_size=4)),
    MLMC(ladder=FixedPointLadder(), law=OwnLaw()),
]


@pytest.mark.parametrize("correction", CORRECTIONS, ids=str)
def test_gradients_are_of_the_anchor_plus_its_correction(correction: Compressor) -> None:
    """So the point is as unbiased as the correction."""
    run = recording(replace(PLAIN, correction=correction))
    run.round()
    for _ in range(9):
        context, at = run.context(SERVER), run.x.clone()
        run.round()
        anchor = run.workers[0].state_dict()["anchor"]
        own = bound(correction, context)
        point = anchor.clone()
        own.compress(at - anchor, generator=context.generator).add_to(point)
        gradient = torch.zeros_like(at)
        run.reports[3].payloads["gradient"].add_to(gradient)
        torch.testing.assert_close(
            gradient, run.oracles[3].gradient(point, None), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize(("alive", "every"), [(3, 6), (2, 4), (1, 2)])
def test_an_anchor_is_fetched_when_the_last_one_has_ended(alive: int, every: int) -> None:
    run = recording(replace(PLAIN, anchors_alive=alive))
    for index in range(15):
        run.round()
        names = set(run.news[0].payloads)
        if index == 0:
            assert names == {"parameters"}
        elif index % every == 0:
            assert names == {"correction", "anchor"}
            assert run.news[0].scalars == {"anchor": index // 2}
        else:
            assert names == {"correction"}
            assert not run.news[0].scalars
        assert all(payload.dim == 24 for payload in run.news[0].payloads.values())
        assert len({id(message) for message in run.news.values()}) == 1  # a frame for everyone
        assert set(run.reports[0].payloads) == {"gradient"}
        assert run.reports[0].scalars == {"anchor": index // every * every // 2}
        memory = run.server.state_dict()
        assert sum(name.startswith("anchor ") for name in memory) <= alive


def test_workers_hold_what_the_server_says() -> None:
    run = recording(PLAIN)
    for _ in range(12):
        run.round()
        memory = run.server.state_dict()
        assert held(run) == memory["held"].tolist()
        for worker, number in zip(run.workers, held(run), strict=True):
            assert torch.equal(worker.state_dict()["anchor"], memory[f"anchor {number}"])


def test_anchors_are_of_the_point_when_they_were_published() -> None:
    run = recording(replace(PLAIN, anchor=Identity(), anchors_alive=1))
    for index in range(10):
        at = run.x.clone()
        run.round()
        if index % 2 == 0:
            assert all(torch.equal(w.state_dict()["anchor"], at) for w in run.workers)


def test_workers_that_come_and_go_use_the_anchor_that_they_hold() -> None:
    """With exact corrections, whoever takes part evaluates at x, whatever anchor it holds."""
    method = replace(PLAIN, anchor=Identity(), correction=Identity(), anchors_alive=2)
    run = recording(PartialParticipation(method=method, participants=2))
    fetched, kept = 0, 0
    for index in range(60):
        at, before = run.x.clone(), held(run)
        run.round()
        memory = run.server.state_dict()
        assert held(run) == memory["held"].tolist()
        for i, report in run.reports.items():
            gradient = report.payloads["gradient"].to_dense()
            expected = run.oracles[i].gradient(at, None)
            torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)
            newest = index // 2
            alive = before[i] >= 0 and before[i] > newest - 2
            assert held(run)[i] == (before[i] if alive else newest)
            fetched, kept = fetched + (not alive), kept + alive
    assert fetched > 20
    assert kept > 20


def test_one_that_joins_in_the_first_rounds_gets_the_first_point() -> None:
    method = replace(PLAIN, anchor_rounds=1000)
    run = recording(PartialParticipation(method=method, participants=1))
    for _ in range(30):
        run.round()
    anchors = [worker.state_dict() for worker in run.workers]
    ones = torch.ones(24, dtype=torch.float64)
    assert sum(bool(state) for state in anchors) > 4
    assert all(torch.equal(state["anchor"], ones) for state in anchors if state)


def test_an_anchor_is_made_again_after_loading() -> None:
    """Later comers get the same payload from a server that was saved and loaded."""
    method = replace(PLAIN, anchor=EDEN(bits=2.0), anchor_rounds=5)
    run, twin = recording(method), recording(method)
    run.rounds(7)
    state = run.server.state_dict()
    state["held"][2] = -1
    run.server.load_state_dict(state)
    twin.server.load_state_dict(state)
    twin.x.copy_(run.x)
    run.round_index = twin.round_index = 7
    anchors = []
    for one in (run, twin):
        one.server.news(context=one.context(SERVER))
        assert set(one.news[2].payloads) == {"correction", "anchor"}
        anchors.append(one.news[2].payloads["anchor"].to_dense())
    assert torch.equal(*anchors)
    made = torch.zeros(24, dtype=torch.float64)
    twin.news[2].payloads["anchor"].add_to(made)
    assert torch.equal(made, state["anchor 1"])


@pytest.mark.parametrize("scalars", [{}, {"anchor": 7.0}], ids=str)
def test_a_report_from_another_anchor_is_refused(scalars: dict[str, float]) -> None:
    run = recording(PLAIN)
    run.rounds(3)
    before = run.server.state_dict()
    run.server.news(context=run.context(SERVER))
    reports = {i: run.reports[i] for i in range(8)}
    reports[5] = Message(reports[5].payloads, scalars)
    with pytest.raises(ValueError, match=r"report of worker 5: anchor is .* for anchor 0"):
        run.server.step(reports, context=run.context(SERVER))
    assert torch.equal(run.server.state_dict()["held"], before["held"])


def test_it_comes_close_to_the_optimum() -> None:
    run = run_of(DoCoFL(compressor=RandK(k=4), anchors_alive=1), SMALL, 0.1)
    squared_distances(run, optimum_of(SMALL), 0.05, 500)
