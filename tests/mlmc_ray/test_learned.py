"""Learned compression: phases, positions, error feedback, the autoencoder and its training."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.methods import LearnedCompression
from mlmc_ray.methods.learned import server as server_module
from mlmc_ray.methods.learned import worker as worker_module
from mlmc_ray.methods.learned.autoencoder import Autoencoder, Trainer, num_weights
from mlmc_ray.payloads import DensePayload, Message, ScatteredPayload
from mlmc_ray.wire import decode, encode
from tests.mlmc_ray.driver import Run

SIZES = (10, 100, 100, 12)
DIM = sum(SIZES)


@dataclass
class Drawing:
    """Gradients that are multiples of 1/64, so that float16 and float32 hold them."""

    seed: int
    scale: float = 1.0
    given: list[Tensor] = field(default_factory=list)

    def sample(self, size: int | None = None) -> None:
        return None

    def full(self) -> None:
        return None

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        draws = torch.Generator().manual_seed(1000 * self.seed + len(self.given))
        self.given.append(torch.randint(-64, 65, (DIM,), generator=draws).float() / 64 * self.scale)
        return self.given[-1].clone()


class Layered(Run):
    def context(self, worker_id: int, exchange_index: int = 0) -> Context:
        context = super().context(worker_id, exchange_index)
        return replace(context, layer_sizes=SIZES)


def run_of(num_workers: int = 3, same: bool = False, **settings: Any) -> Layered:
    defaults = {"k": 0.2, "dense_rounds": 2, "training_rounds": 3, "edge_layers": 1}
    method = LearnedCompression(**(defaults | settings))
    oracles = [Drawing(0 if same else i) for i in range(num_workers)]
    return Layered(method, oracles, torch.zeros(DIM), 0.0)


def phase_of(run: Run) -> tuple[int, int]:
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, Message)
    return int(news.scalars["phase"]), int(news.scalars["leader"])


def test_phases_change_and_leaders_take_turns() -> None:
    run = run_of(fall_back=False)
    seen = []
    for _ in range(8):
        seen.append(phase_of(run))
        run.round()
    assert seen == [(0, 0), (0, 1), (1, 2), (1, 0), (1, 1), (2, 2), (2, 0), (2, 1)]


def test_weights_are_sent_once_they_have_been_trained() -> None:
    run = run_of(fall_back=False)
    have = []
    for _ in range(8):
        news = run.server.news(context=run.context(-1))
        assert isinstance(news, Message)
        have.append("weights" in news.payloads)
        run.round()
    assert have == [False] * 5 + [True, False, False]


def test_dense_rounds_send_gradients() -> None:
    run = run_of()
    estimate = run.estimate()
    expected = torch.stack([oracle.given[0] for oracle in run._oracles]).mean(dim=0)
    torch.testing.assert_close(estimate, expected)


def test_training_rounds_send_the_leaders_positions_and_keep_the_rest() -> None:
    run = run_of(dense_rounds=0)
    estimate = run.estimate()
    first = [oracle.given[0] for oracle in run._oracles]
    middle = first[0][10:210].abs()
    positions = 10 + torch.sort(middle, descending=True, stable=True).indices[:40].sort().values
    average = torch.stack(first).mean(dim=0)
    torch.testing.assert_close(estimate[positions], average[positions])
    elsewhere = torch.ones(DIM, dtype=torch.bool)
    elsewhere[positions] = False
    assert not estimate[10:210][elsewhere[10:210]].any()
    for worker, gradient in zip(run.workers, first, strict=True):
        error = worker.state_dict()["error"]
        assert torch.equal(error[10:210][elsewhere[10:210]], gradient[10:210][elsewhere[10:210]])
        assert not error[positions].any()
        ends = torch.cat([gradient[:10], gradient[210:]])
        left = torch.cat([error[:10], error[210:]])
        assert int((left != ends).sum()) == 4  # a fifth of the 22 entries at the ends


def test_what_is_said_and_what_is_kept_are_all_there_is() -> None:
    """In all phases: sum of estimates + mean error = sum of mean gradients."""
    run = run_of(fall_back=False)
    sent = torch.zeros(DIM)
    for _ in range(10):
        estimate = run.estimate()
        sent += estimate
    given = torch.stack([torch.stack(oracle.given).sum(dim=0) for oracle in run._oracles])
    kept = torch.stack([worker.state_dict()["error"] for worker in run.workers]).mean(dim=0)
    torch.testing.assert_close(sent + kept, given.mean(dim=0), rtol=1e-4, atol=1e-4)


class Perfect:
    """An autoencoder that loses nothing."""

    def __init__(self, length: int, seed: int) -> None:
        self.weights = torch.zeros(1)
        self.code_length = length

    def encode(self, values: Tensor) -> Tensor:
        return values

    def decode(self, code: Tensor, innovations: Tensor) -> Tensor:
        return code.expand_as(innovations)


class NoTrainer:
    def __init__(self, *_: Any) -> None:
        pass

    def step(self, *_: Any) -> float:
        return 0.0


def test_with_a_perfect_autoencoder_all_is_top_k(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers with equal vectors then lose nothing on the leader's positions."""
    monkeypatch.setattr(server_module, "Autoencoder", Perfect)
    monkeypatch.setattr(server_module, "Trainer", NoTrainer)
    monkeypatch.setattr(worker_module, "Autoencoder", Perfect)
    monkeypatch.setattr(worker_module, "num_weights", lambda: 1)
    run = run_of(same=True, dense_rounds=0, training_rounds=1)
    run.round()
    for _ in range(3):
        assert phase_of(run)[0] == 2
        before = run.workers[0].state_dict()["error"]
        estimate = run.estimate()
        vector = before + run._oracles[0].given[-1]
        middle = vector[10:210]
        positions = torch.sort(middle.abs(), descending=True, stable=True).indices[:40]
        expected = torch.zeros(200)
        expected[positions] = middle[positions]
        # The code is float16, of values in [-1, 1]: 2^-11 of the largest.
        torch.testing.assert_close(estimate[10:210], expected, rtol=0, atol=0.01)


def test_a_code_that_loses_too_much_is_trained_again() -> None:
    run = run_of(dense_rounds=0, training_rounds=1)
    phases = []
    for _ in range(4):
        phases.append(phase_of(run)[0])
        run.round()
    assert phases == [1, 2, 1, 2]  # one step on noise cannot do


def test_training_lowers_the_loss() -> None:
    draws = torch.Generator().manual_seed(0)
    autoencoder = Autoencoder(50, 7)
    trainer = Trainer(autoencoder, 1e-3, 0.5)
    values = torch.randn(1, 50, generator=draws).clamp(-1, 1).expand(3, 50)
    nothing = torch.zeros(3, 50)
    losses = [trainer.step(values, nothing, 0) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]
    with torch.no_grad():
        decoded = autoencoder.decode(autoencoder.encode(values)[0], nothing)
    assert decoded.shape == (3, 50)
    assert autoencoder.encode(values).shape == (3, autoencoder.code_length) == (3, 16)


def test_equal_seeds_give_equal_weights() -> None:
    first, second = Autoencoder(50, 7).weights, Autoencoder(16, 7).weights
    assert torch.equal(first, second)
    assert not torch.equal(first, Autoencoder(50, 8).weights)
    assert len(first) == num_weights()


def test_a_restored_run_goes_on_as_the_first() -> None:
    runs = [run_of(fall_back=False), run_of(fall_back=False)]
    for _ in range(4):
        runs[0].round()
    runs[1].server.load_state_dict(runs[0].server.state_dict())
    for new, old in zip(runs[1].workers, runs[0].workers, strict=True):
        new.load_state_dict(old.state_dict())
    runs[1].round_index = runs[0].round_index
    for new, old in zip(runs[1]._oracles, runs[0]._oracles, strict=True):
        new.given.extend(old.given)
    for _ in range(4):
        first, second = (run.estimate() for run in runs)
        assert torch.equal(first, second)


def test_compressed_messages_are_small() -> None:
    run = run_of(fall_back=False)
    for _ in range(6):
        run.round()
    sizes = {i: len(encode(report)) for i, report in run.reports.items()}
    # The four largest of 40 scaled values and 4 entries at the ends, with positions: 32 bytes of
    # values; three scalars of 9 bytes with names of 5, 4 and 11 letters.
    assert all(size < 150 for size in sizes.values()), sizes
    assert all(decode(encode(report)).payloads for report in run.reports.values())


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="training_rounds is 0"):
        LearnedCompression(k=10, training_rounds=0)
    with pytest.raises(ValueError, match="innovation is 1"):
        LearnedCompression(k=10, innovation=1)
    with pytest.raises(ValueError, match="edge_layers is 2, and the model has 4 parameter tensors"):
        run_of(edge_layers=2, dense_rounds=0).round()


def test_positions_elsewhere_are_refused() -> None:
    run = run_of(dense_rounds=0)
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, Message)
    reports = {
        i: worker.step(news, run._oracles[i], context=run.context(i))
        for i, worker in enumerate(run.workers)
    }
    good = reports[0].payloads["positions"]
    for change in (good.indices - 10, good.indices[:-1]):  # type: ignore[attr-defined]
        inner = replace(good.inner, codes=torch.ones(len(change), dtype=torch.int8))  # type: ignore[attr-defined]
        bad = replace(good, indices=change, inner=inner)  # type: ignore[type-var]
        reports[0] = Message({"positions": bad})
        with pytest.raises(ValueError, match=r"report of worker 0 says .* positions from"):
            run.server.step(reports, context=run.context(-1))
    with pytest.raises(ValueError, match="report of worker 0 says no positions"):
        run.server.step({0: Message({})}, context=run.context(-1))


def begun(run: Run) -> dict[int, Message]:
    """Run the first exchange of the next round and return the answers in the second."""
    for exchange_index in (0, 1):
        news = run.server.news(context=run.context(-1, exchange_index))
        assert isinstance(news, Message)
        reports = {
            i: worker.step(news, run._oracles[i], context=run.context(i, exchange_index))
            for i, worker in enumerate(run.workers)
        }
        if exchange_index == 0:
            run.server.step(reports, context=run.context(-1))
    return reports


@pytest.mark.parametrize("value", [1.7e308, -1e300, None])
@pytest.mark.parametrize("name", ["scale", "lost", "alternative"])
def test_amounts_out_of_range_are_named(name: str, value: float | None) -> None:
    run = run_of(dense_rounds=0, training_rounds=1)
    run.round()
    reports = begun(run)
    scalars = {**reports[2].scalars, name: value}
    kept = {key: number for key, number in scalars.items() if number is not None}
    reports[2] = Message(reports[2].payloads, kept)
    text = rf"^report of worker 2: {name} is {re.escape(repr(value))}, expected a number from 0 to"
    with pytest.raises(ValueError, match=text):
        run.server.step(reports, context=run.context(-1, 1))


def test_no_positions_at_all_are_refused() -> None:
    run = run_of(dense_rounds=0)
    nowhere = torch.empty(0, dtype=torch.int64)
    empty = ScatteredPayload(DIM, nowhere, DensePayload(torch.empty(0)))
    with pytest.raises(ValueError, match="report of worker 0 says 0 positions, expected 40 from"):
        run.server.step({0: Message({"positions": empty})}, context=run.context(-1))


def test_a_report_without_edges_is_refused_before_the_autoencoder_learns() -> None:
    run = run_of(dense_rounds=0)
    reports = begun(run)
    before = run.server.state_dict()
    reports[1] = Message({"values": reports[1].payloads["values"]})
    with pytest.raises(ValueError, match="report of worker 1 lacks 'edges'"):
        run.server.step(reports, context=run.context(-1, 1))
    after = run.server.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_code_that_nobody_can_decode_is_refused_on_arrival() -> None:
    run = run_of(dense_rounds=0, training_rounds=1)
    run.round()
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, Message)
    report = run.workers[1].step(news, run._oracles[1], context=run.context(1))
    length = report.payloads["code"].dim
    for value, text in (
        (3e38, "code has an entry of magnitude 3e"),
        (torch.nan, "code is decoded"),
    ):
        code = DensePayload(torch.full((length,), value))
        bad = Message({**report.payloads, "code": code})
        with pytest.raises(ValueError, match=f"^report of worker 1: {text}"):
            run.server.step({1: bad}, context=run.context(-1))
