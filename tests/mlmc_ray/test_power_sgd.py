"""PowerSGD: projections, linearity, error feedback, traffic."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.methods import PowerSGDMethod
from mlmc_ray.payloads import Message
from tests.mlmc_ray.driver import Run

SHAPES = ((8, 6), (6,), (5, 2, 3), (2, 2))  # the last is sent whole at rank 1: 4 numbers of 4
DIM = 8 * 6 + 6 + 30 + 4


@dataclass
class Given:
    """An oracle whose gradient is always the same vector."""

    vector: Tensor

    def sample(self, size: int | None = None) -> None:
        return None

    def full(self) -> None:
        return None

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        return self.vector.clone()


class Layered(Run):
    """A run whose context knows the layers."""

    def context(self, worker_id: int, exchange_index: int = 0) -> Context:
        context = super().context(worker_id, exchange_index)
        return replace(context, layer_shapes=SHAPES)


def vectors(number: int, seed: int = 0) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(DIM, dtype=torch.float64, generator=draws) for _ in range(number)]


def run_of(gradients: list[Tensor], rank: int = 1, step_size: float = 0.0) -> Layered:
    oracles = [Given(gradient) for gradient in gradients]
    start = torch.zeros(DIM, dtype=torch.float64)
    return Layered(PowerSGDMethod(rank=rank), oracles, start, step_size)


def low_rank(rank: int) -> Tensor:
    draws = torch.Generator().manual_seed(5)

    def matrix(rows: int, columns: int) -> Tensor:
        left = torch.randn(rows, rank, dtype=torch.float64, generator=draws)
        return left @ torch.randn(rank, columns, dtype=torch.float64, generator=draws)

    whole = torch.randn(6 + 4, dtype=torch.float64, generator=draws)
    first, third = matrix(8, 6), matrix(5, 6)
    return torch.cat([first.flatten(), whole[:6], third.flatten(), whole[6:]])


@pytest.mark.parametrize("rank", [1, 2])
def test_matrices_of_that_rank_come_out_exact_after_one_round(rank: int) -> None:
    gradient = low_rank(rank)
    torch.testing.assert_close(
        run_of([gradient], rank).estimate(), gradient, rtol=1e-10, atol=1e-12
    )


def test_the_result_depends_on_the_average_alone() -> None:
    gradients = vectors(4)
    average = sum(gradients, start=torch.zeros(DIM, dtype=torch.float64)) / 4
    several, one = run_of(gradients), run_of([average])
    for _ in range(3):
        torch.testing.assert_close(several.estimate(), one.estimate(), rtol=1e-9, atol=1e-12)


def test_the_error_is_what_the_projection_leaves_and_comes_back() -> None:
    """The sum of estimates plus the mean error is the sum of gradients, after every round."""
    gradients = vectors(3)
    average = sum(gradients, start=torch.zeros(DIM, dtype=torch.float64)) / 3
    run = run_of(gradients)
    sent = torch.zeros(DIM, dtype=torch.float64)
    for _ in range(5):
        estimate = run.estimate()
        sent += estimate
    # After a round workers hold A; the error is A - P Q', which the server's estimate says.
    held = torch.stack([worker.state_dict()["error"] for worker in run.workers]).mean(dim=0)
    assert held.norm() > 1
    estimate[48:54], estimate[84:] = 0, 0  # layers that are sent whole have no error
    torch.testing.assert_close(sent + held - estimate, 5 * average, rtol=1e-10, atol=1e-12)


def test_projecting_again_improves_the_directions() -> None:
    """With a warm start, the estimate of a constant gradient tends to the best of that rank."""
    (gradient,) = vectors(1)
    matrix = gradient[:48].view(8, 6)
    best = torch.linalg.svdvals(matrix)[0] ** 2
    run = run_of([gradient])
    for _ in range(200):
        run.round()
        state = run.workers[0].state_dict()  # no feedback: the same matrix every time
        run.workers[0].load_state_dict(
            state
            | {
                "error": torch.zeros(DIM, dtype=torch.float64),
                "left": torch.zeros(8 + 5, dtype=torch.float64),
            }
        )
    estimate = run.estimate()
    assert float(estimate[:48].square().sum()) == pytest.approx(float(best), rel=1e-9)


def test_two_reports_and_two_pieces_of_news_a_round() -> None:
    run = run_of(vectors(2))
    run.round()
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, Message)
    assert {name: payload.dim for name, payload in news.payloads.items()} == {
        "parameters": DIM,
        "right": 6 + 6,
    }
    report = run.workers[0].step(news, Given(vectors(1)[0]), context=run.context(0))
    assert {name: p.dim for name, p in report.payloads.items()} == {"left": 8 + 5, "whole": 6 + 4}
    assert {name: p.dim for name, p in run.reports[1].payloads.items()} == {"right": 6 + 6}


def test_a_model_without_matrices_is_sent_whole_in_one_exchange() -> None:
    gradient = torch.arange(4.0, dtype=torch.float64)
    run = Run(PowerSGDMethod(), [Given(gradient)], torch.zeros(4, dtype=torch.float64), 0.1)
    assert torch.equal(run.estimate(), gradient)
    assert torch.equal(run.estimate(), gradient)


def test_a_rank_that_is_none() -> None:
    with pytest.raises(ValueError, match="rank is 0: give at least 1"):
        PowerSGDMethod(rank=0)
