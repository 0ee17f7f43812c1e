"""End to end: what is measured of a run, cells that run once, and what is read from them."""

import dataclasses
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.end_to_end import measuring, running
from benchmarks.end_to_end.__main__ import app
from benchmarks.end_to_end.cells import Outcome, best_step, read, tuning_cells, write
from benchmarks.end_to_end.ddp import LOOPBACK, rank_command
from benchmarks.end_to_end.local import initial
from benchmarks.end_to_end.measuring import (
    Evaluation,
    Record,
    Timing,
    measure,
    rounds_to_evaluation,
)
from benchmarks.end_to_end.on_ray import documented_training, gradient_seconds, our_training
from benchmarks.end_to_end.plan import (
    CONTENDERS,
    MODELS,
    RATES,
    Budget,
    Cell,
    Distributed,
    Model,
    Ours,
    Rate,
    cell_named,
    named,
    names_of,
    pairs,
)
from benchmarks.end_to_end.running import run_cells
from launch import Session
from launch.configuration.run_config import RunConfig
from launch.lab.inside import Counters

DIGITS: Model = named(MODELS, "digits")


def _cell(contender: str = "DDP", rounds: int = 12, step_size: float = 0.2) -> Cell:
    return Cell(
        contender=named(CONTENDERS, contender),
        model=DIGITS,
        rate="unshaped",
        step_size=step_size,
        budget=Budget(seconds=30, rounds=rounds),
    )


def _outcome(*accuracies: float, round_s: float = 0.5, timed: Sequence[Timing] = ()) -> Outcome:
    """Return what is left of a run that was evaluated after the warm-up and every round after it.

    Its busiest interface has sent 9 million bytes in each of two rounds, and 5 in the others.
    """
    rounds = range(2, 2 + len(accuracies))
    evaluations = [
        Evaluation(
            rounds=number,
            measures={"accuracy": accuracy},
            tx_bytes=[0, 1_000_000 * (8 + 5 * number)],
            rx_bytes=[number, 0],
        )
        for number, accuracy in zip(rounds, accuracies, strict=True)
    ]
    seconds = [10.0, 20.0] + [round_s] * (len(accuracies) - 1)
    record = Record(
        compute_seconds=[0.1, 0.2],
        round_seconds=seconds,
        evaluations=evaluations,
        timings=list(timed),
    )
    return Outcome(status="ended", reason=None, record=record)


class _Counting:
    """A training of half a second a round, in which evaluations send bytes as well."""

    def __init__(self) -> None:
        self.sent = 0
        self.round_s = 0.5
        self.ran: list[int] = []

    def run(self, rounds: int) -> list[float]:
        self.ran.append(rounds)
        self.sent += 10 * rounds
        return [self.round_s] * rounds

    def evaluate(self) -> dict[str, float]:
        self.sent += 1000
        return {"accuracy": 0.1 * len(self.ran)}

    def counters(self) -> tuple[Counters, ...]:
        zero = Counters(rx_bytes=0, tx_bytes=0, rx_packets=0, tx_packets=0, retransmitted=0)
        return (zero, dataclasses.replace(zero, tx_bytes=self.sent, rx_bytes=7))


def test_bytes_of_evaluations_are_left_out_and_the_budget_ends_a_run(tmp_path: Path) -> None:
    training, record, path = _Counting(), Record(compute_seconds=[0.1]), tmp_path / "record"
    cell = dataclasses.replace(
        _cell(),
        budget=Budget(seconds=4.9, rounds=1000),
        model=dataclasses.replace(DIGITS, growth=1.5),
    )
    measure(training, record, cell, counters=training.counters, path=path)
    assert training.ran == [2, 1, 1, 2, 3, 3]  # 2 of warm-up, and 10 that take 5 seconds
    last = record.evaluations[-1]
    assert (last.rounds, last.tx_bytes, last.rx_bytes) == (12, [0, 120], [0, 0])
    assert Record.of(json.loads(path.read_text(encoding="utf-8"))) == record


def test_a_run_goes_on_for_as_long_again_once_it_has_its_target(tmp_path: Path) -> None:
    training, record, path = _Counting(), Record(compute_seconds=[0.1]), tmp_path / "record"
    cell = dataclasses.replace(
        _cell(),
        budget=Budget(seconds=100, rounds=1000, target=0.3),
        model=dataclasses.replace(DIGITS, growth=1.001),
    )
    measure(training, record, cell, counters=training.counters, path=path)
    # 2 of warm-up; the third and fourth evaluation have it, after 2 + 1 + 1 + 1 rounds
    assert sum(training.ran) == 2 + 2 * 3


def test_evaluations_are_far_apart_only_late_in_a_run() -> None:
    budget = Budget(seconds=100, rounds=25)
    assert rounds_to_evaluation([], budget, 1.2) == 2
    assert rounds_to_evaluation([1.0] * 3, budget, 1.2) == 1
    assert rounds_to_evaluation([1.0] * 20, budget, 1.2) == 4
    assert rounds_to_evaluation([1.0] * 24, budget, 1.2) == 1
    assert rounds_to_evaluation([1.0] * 25, budget, 1.2) == 0
    assert rounds_to_evaluation([60.0] * 4, budget, 1.2) == 0  # two of warm-up, and 120 s


def _busiest(outcome: Outcome) -> tuple[float | None, float]:
    assert outcome.record
    return outcome.record.busiest_bytes(), outcome.record.warm_up_bytes()


def test_the_warm_up_counts_in_seconds_and_not_in_rounds_and_bytes() -> None:
    outcome = _outcome(0.1, 0.6, 0.4, 0.7, 0.8)
    assert outcome.round_s == 0.5
    assert outcome.compute_s == 0.2
    assert [seconds for seconds, _ in outcome.trace()] == [30.0, 30.5, 31.0, 31.5, 32.0]
    assert outcome.rounds_to(0.5) == 5  # after 3 it does not hold
    assert outcome.seconds_to(0.5) == 31.5
    assert outcome.seconds_to(0.8) is None
    assert _busiest(outcome) == (5e6, 8e6)
    assert _busiest(_outcome(0.1)) == (9e6, 0)


def test_seconds_at_another_rate_are_those_of_as_many_rounds_and_a_longer_start() -> None:
    timed = [Timing(rate="10mbit", round_seconds=[4.0, 5.0, 9.0])]
    timed += [Timing(rate="100mbit", round_seconds=[])]
    outcome = _outcome(0.1, 0.6, 0.7, timed=timed)
    assert outcome.timed_round_s("10mbit") == 5.0
    assert outcome.computed_seconds_to(0.5, "10mbit") == 3 * 5.0 + 8 / 1.25
    assert outcome.computed_seconds_to(0.9, "10mbit") is None
    assert outcome.timed_round_s("100mbit") is outcome.timed_round_s("1gbit") is None
    assert outcome.computed_seconds_to(0.5, "100mbit") is None


def test_rounds_are_timed_at_other_rates_after_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaped: list[float | None] = []
    monkeypatch.setattr(measuring, "shape_links", shaped.append)
    cell = dataclasses.replace(_cell(), timed=("1gbit", "100mbit"))
    for round_s, expected in ((0.5, [1, 16]), (3.0, [1, 2]), (9.0, [1])):
        training, path = _Counting(), tmp_path / "record"
        training.round_s, record = round_s, Record(compute_seconds=[0.1])
        measure(training, record, cell, counters=training.counters, path=path)
        assert training.ran[-2 * len(expected) :] == expected * 2
        assert [len(timing.round_seconds) for timing in record.timings] == [expected[-1]] * 2
        assert Record.of(json.loads(path.read_text(encoding="utf-8"))) == record
    assert shaped == [125e6, 12.5e6] * 3


def test_rounds_that_would_take_too_long_are_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "RATES", {"10mbit": 10 / 31})
    training, record = _Counting(), Record(compute_seconds=[0.1])
    cell = dataclasses.replace(_cell(), timed=("10mbit",))
    measure(training, record, cell, counters=training.counters, path=tmp_path / "record")
    assert record.timings == [Timing(rate="10mbit", round_seconds=[])]
    assert _outcome(0.1).round_s == 15.0
    assert _outcome(0.1, 0.2).round_s == 0.5  # the median of all three is 10


def test_the_best_step_size_is_that_of_the_accuracy_at_the_end(tmp_path: Path) -> None:
    sgd = named(CONTENDERS, "SGD")
    cells = tuning_cells(sgd, DIGITS)
    assert {cell.contender.name for cell in cells} == {"DDP"}
    assert best_step(sgd, DIGITS, tmp_path) is None
    finals = (_outcome(0.5), _outcome(0.7), Outcome(status="failed", reason="NaN", record=None))
    for cell, outcome in zip(cells, finals, strict=False):
        write(cell, outcome, tmp_path)
    assert best_step(sgd, DIGITS, tmp_path) == cells[1].step_size


def test_every_cell_of_the_plan_has_a_configuration_and_a_file_of_its_own() -> None:
    cells = [
        dataclasses.replace(_cell(contender.name), model=model, rate=rate)
        for model in MODELS
        for rate in RATES
        for contender in CONTENDERS
    ]
    assert len({cell.path(Path()) for cell in cells}) == len(cells)
    for cell in cells:
        assert cell_named(json.loads(json.dumps(names_of(cell)))) == cell
        if cell.rate == "unshaped" and isinstance(cell.contender, Ours):
            cell.config()


def test_batching_is_left_out_where_it_changes_nothing() -> None:
    batched = named(CONTENDERS, "DDP batched PowerSGD 1")
    assert [model.name for _, model in pairs([batched], MODELS)] == ["ResNet-18"]
    assert len(pairs([named(CONTENDERS, "DDP")], MODELS)) == len(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_models_have_the_parameters_that_the_plan_says(model: Model) -> None:
    config = dataclasses.replace(_cell(), model=model).config()
    parameters = initial(config.problem.load(), config.seed).parameters()
    assert sum(parameter.numel() for parameter in parameters) == model.parameters


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hook": "fp16", "rank": 1}, "rank is 1: give a rank with powersgd"),
        ({"hook": "powersgd"}, "rank is None: give a rank with powersgd"),
    ],
)
def test_a_hook_that_cannot_be_is_refused(changed: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(
            Distributed(name="DDP", tuned_as="DDP"),
            **changed,  # type: ignore[arg-type]
        )


def _on_loopback(cell: Cell, directory: Path) -> Record:
    """Train a cell with two ranks on this machine; once more if gloo has aborted one."""
    place, path = directory / "cell", directory / "record"
    place.write_text(json.dumps(names_of(cell)), encoding="utf-8")
    if -signal.SIGABRT in _statuses_of_ranks(place, path):
        assert _statuses_of_ranks(place, path) == [0, 0]
    return Record.of(json.loads(path.read_text(encoding="utf-8")))


def _statuses_of_ranks(place: Path, path: Path) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ranks = [
        subprocess.Popen(
            rank_command(place, path, rank=rank, ranks=2, address=address, interface=LOOPBACK)
        )
        for rank in range(2)
    ]
    try:
        return [rank.wait(120) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def _after(config: RunConfig, rounds: int) -> float:
    """Return the accuracy that a session has after some rounds."""
    with Session(config) as session:
        accuracy: float = session.run(rounds)["test_accuracy"]
        return accuracy


def test_ranks_train_as_a_session_does(tmp_path: Path) -> None:
    cell = _cell()
    record = _on_loopback(cell, tmp_path)
    assert len(record.compute_seconds) == 2
    assert len(record.round_seconds) == record.evaluations[-1].rounds == 12
    config = dataclasses.replace(cell.config(), workers=2, engine="inline")
    expected = _after(config, 12)
    assert expected > 0.3  # it has learned something
    found = record.evaluations[-1].measures["accuracy"]
    assert found == pytest.approx(expected, abs=1.5 / 360)  # one of 360 examples, by rounding


@pytest.mark.slow
def test_power_sgd_compresses_after_the_warm_up(tmp_path: Path) -> None:
    plain, compressed = tmp_path / "plain", tmp_path / "compressed"
    traces = []
    for contender, directory in (("DDP", plain), ("DDP PowerSGD 1", compressed)):
        directory.mkdir()
        record = _on_loopback(_cell(contender, rounds=4, step_size=0.5), directory)
        traces.append([seen.measures["accuracy"] for seen in record.evaluations])
    assert traces[0][0] == traces[1][0]
    assert traces[0][1:] != traces[1][1:]


@pytest.mark.ray
@pytest.mark.slow
def test_both_on_ray_train_alike(cluster: None) -> None:
    config = dataclasses.replace(_cell().config(), workers=2, actors=2)
    assert all(seconds > 0 for seconds in gradient_seconds(config))
    expected = _after(dataclasses.replace(config, engine="inline"), 6)
    found = []
    with our_training(config) as ours:
        times = ours.run(4) + ours.run(2)
        found.append(ours.evaluate())
    assert found[0]["uplink_bytes"] > 6 * 2 * 4 * DIGITS.parameters
    for pipelined in (False, True):
        with documented_training(config, 0.2, pipelined=pipelined) as theirs:
            times += theirs.run(4) + theirs.run(2)
            found.append(theirs.evaluate())
    assert len(times) == 18
    assert min(times) > 0
    for measures in found:
        assert measures["accuracy"] == pytest.approx(expected, abs=1.5 / 360)


def _run(cell: Cell, out: Path, *, again: bool = False) -> str:
    console = Console(file=io.StringIO(), width=300)
    run_cells([cell], out, console, again=again)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_cell_runs_once_and_one_that_failed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "raise SystemExit('the switch is broken')"
    monkeypatch.setattr(running, "_lab_command", lambda *_: [sys.executable, "-c", program])
    cell = _cell()
    assert "failed: the switch is broken" in _run(cell, tmp_path)
    assert _run(cell, tmp_path) == ""
    assert "failed" in _run(cell, tmp_path, again=True)
    record = tmp_path / "made-up"
    outcome = _outcome(0.1, 0.2)
    assert outcome.record
    outcome.record.write(record)
    monkeypatch.setattr(running, "_lab_command", lambda *at: ["cp", str(record), str(at[2])])
    assert "3 rounds of 0.5 s, accuracy 20.0%" in _run(cell, tmp_path, again=True)
    assert _run(cell, tmp_path, again=True) == ""
    assert read(cell, tmp_path) == outcome


def test_a_cell_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LIMIT_S", 0.2)
    monkeypatch.setattr(running, "_lab_command", lambda *_: ["sleep", "100"])
    assert "time limit: after 0.2 s" in _run(_cell(), tmp_path)


def test_relayed_messages_train_with_the_step_size_of_sent_parameters() -> None:
    relayed = [c for c in CONTENDERS if isinstance(c, Ours) and c.downlink == "relay"]
    assert [contender.name for contender in relayed] == [f"{c.tuned_as}, relay" for c in relayed]
    for contender in relayed:
        config, full = (_cell(name).config() for name in (contender.name, contender.tuned_as))
        assert config != full
        assert dataclasses.replace(config, downlink=full.downlink) == full


def test_a_rate_is_that_of_the_lab() -> None:
    cell = dataclasses.replace(_cell("SGD"), rate="10mbit")
    command = running._lab_command(cell, Path("cell"), Path("record"))
    assert command[command.index("--nodes") + 1] == "6"  # driver, server, workers
    assert command[command.index("--rate") + 1] == "10mbit"
    assert "--no-ray" not in command
    assert "--rate" not in running._lab_command(_cell(), Path("cell"), Path("record"))


def test_the_report_shows_what_there_is(tmp_path: Path) -> None:
    asked = ["report", "--out", str(tmp_path), "--model", "digits", "--step", "0.1"]
    budget = Budget(seconds=150.0, rounds=2000, target=DIGITS.target)
    timings = [Timing(rate="100mbit", round_seconds=[1.5])]
    cells: tuple[tuple[str, Rate, Outcome], ...] = (
        ("DDP", "10mbit", _outcome(0.5, 0.95, 0.95)),
        ("DDP", "unshaped", _outcome(0.5, 0.95, 0.95, round_s=0.25, timed=timings)),
        ("SGD", "10mbit", Outcome(status="failed", reason="no memory", record=None)),
    )
    for contender, rate, outcome in cells:
        timed: tuple[Rate, ...] = ("1gbit", "100mbit", "10mbit") if rate == "unshaped" else ()
        cell = dataclasses.replace(_cell(contender, step_size=0.1), rate=rate, budget=budget)
        write(dataclasses.replace(cell, timed=timed), outcome, tmp_path)
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 0, found.output
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| | compute | 10mbit | 100mbit | 1gbit | unshaped |" in text
    assert "| DDP | 200 | 500 | 1.5e+03 | - | 250 |" in text
    assert "| DDP | 30.5 | ~5.14 | - | 30.2 |" in text
    assert "| DDP | 3 | 95.0% | 5 MB |" in text
    assert "| SGD | - | - | - | - | - |" in text
    assert "- SGD, 10mbit: failed, no memory" in text
    assert "fp16" not in text
    assert (tmp_path / "figure.png").stat().st_size > 0
    assert CliRunner().invoke(app, [*asked, "--only", "nothing"]).exit_code == 2


def test_nothing_runs_without_step_sizes(tmp_path: Path) -> None:
    asked = ["run", "--out", str(tmp_path), "--only", "SGD"]
    found = CliRunner().invoke(app, asked, env={"COLUMNS": "400"})
    assert found.exit_code == 2
    assert "no step size of" in found.output
