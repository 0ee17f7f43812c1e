"""Callbacks: what trackers and logs are told of a run, and what happens where they fail."""

import json
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from launch import Session, load_config
from launch.callbacks import Callback, Log, MLflow, TensorBoard, WandB
from launch.callbacks.log import LOGGER, config_hash
from launch.callbacks.numbers import flat, levels_of
from launch.metrics import Metrics
from launch.session import check_run
from mlmc_ray.errors import ConfigError, RoundError
from mlmc_ray.rounds import RoundResult

ROOT = Path(__file__).parents[2]
LADDER = {"kind": "s-top-k", "segment_size": 3}
CONFIG: dict[str, Any] = {
    "name": "hello world",
    "problem": "quadratic",
    "method": {"kind": "compressed-sgd", "compressor": {"kind": "mlmc", "ladder": LADDER}},
    "optimizer": {"kind": "sgd", "step_size": 0.001},
    "engine": "inline",
    "rounds": 4,
    "evaluate_every": 2,
    "observe_every": 2,
}


@dataclass(kw_only=True)
class Recorder(Callback):
    """Remembers what it was told."""

    fails_in: str = ""
    told: list[str] = field(default_factory=list, init=False)

    def on_start(self, session: Session) -> None:
        self._tell("start")

    def on_round(self, session: Session, metrics: Metrics, result: RoundResult) -> None:
        assert metrics is session.metrics[-1]
        self._tell(f"round {metrics['round']}, levels {bool(levels_of(result))}")

    def on_note(self, session: Session, text: str) -> None:
        self._tell(f"note {text}")

    def on_end(self, session: Session, error: BaseException | None) -> None:
        self._tell(f"end {type(error).__name__}")

    def _tell(self, text: str) -> None:
        self.told.append(text)
        if self.fails_in and text.startswith(self.fails_in):
            raise OSError("no space left")


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_callback_is_told_of_everything_in_order() -> None:
    recorder = Recorder()
    with Session(CONFIG, callbacks=[recorder]) as session:
        session.run()
        session._on_note("hello")
    rounds = [f"round {r}, levels {r % 2 == 1}" for r in range(1, 5)]
    assert recorder.told == ["start", *rounds, "note hello", "end NoneType"]


def test_what_was_noted_before_the_start_is_told_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.session.notes_on", lambda config: ["hardly meant"])
    notes: list[str] = []
    recorder = Recorder()
    with Session(CONFIG, on_note=notes.append, callbacks=[recorder]):
        pass
    assert notes == ["hardly meant"]
    assert recorder.told == ["start", "note hardly meant", "end NoneType"]


@pytest.mark.parametrize("fails_in", ["start", "round 2", "end"])
def test_one_that_fails_is_left_out_and_the_run_goes_on(fails_in: str) -> None:
    notes: list[str] = []
    bad, good = Recorder(fails_in=fails_in), Recorder()
    with Session(CONFIG, on_note=notes.append, callbacks=[bad, good]) as session:
        session.run()
    ends = ["end NoneType"] if fails_in == "end" else ["end OSError"]
    assert [text for text in bad.told if text.startswith("end")] == ends
    assert bad.told[-len({fails_in, "end"})].startswith(fails_in)
    assert [text for text in good.told if not text.startswith("note")][-1] == "end NoneType"
    assert len(good.told) == 6
    assert [note for note in notes if "Recorder failed in on_" in note and "no space left" in note]


@dataclass
class Equal(Callback):
    """Equal to all of its kind, whatever it does."""

    fails: bool = field(compare=False)
    rounds: int = field(default=0, compare=False)

    def on_round(self, session: Session, metrics: Metrics, result: RoundResult) -> None:
        self.rounds += 1
        if self.fails:
            raise OSError("no space left")


def test_of_two_equal_ones_that_which_failed_is_left_out() -> None:
    good, bad = Equal(fails=False), Equal(fails=True)
    assert good == bad
    with Session(CONFIG, callbacks=[good, bad]) as session:
        session.run(3)
    assert (good.rounds, bad.rounds) == (3, 1)


class Noting(Recorder):
    """Fails at the note that it makes, and then once more."""

    def on_round(self, session: Session, metrics: Metrics, result: RoundResult) -> None:
        session._on_note("mine")
        raise OSError("again")


def test_one_that_fails_twice_at_once_does_not_end_the_run() -> None:
    bad = Noting(fails_in="note")
    with Session(CONFIG, callbacks=[bad]) as session:
        session.run(2)
    assert bad.told == ["start", "note mine", "end OSError"]


@pytest.mark.parametrize("name", ["check", "fresh"])
def test_one_that_fails_before_the_run_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("threshold: got -1")

    monkeypatch.setattr(Recorder, name, fail)
    with pytest.raises(ConfigError, match=f"callbacks: Recorder.{name} failed.*threshold: got -1"):
        Session(CONFIG, callbacks=[Recorder()])


def test_a_log_that_fails_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = list(LOGGER.handlers)
    with Session(CONFIG, callbacks=[Log(path=str(tmp_path / "log.jsonl"))]) as session:
        monkeypatch.setattr("launch.callbacks.log.measure_names", lambda metrics: 1 / 0)
        session.run(1)
        assert before == LOGGER.handlers
    assert [event["event"] for event in events(tmp_path / "log.jsonl")][-2:] == ["error", "end"]


def test_the_configuration_names_callbacks(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    config = {**CONFIG, "callbacks": [{"kind": "log", "path": str(path)}]}
    with Session(config, out=tmp_path / "run") as session:
        session.run()
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["callbacks"] == [{"kind": "log", "path": str(path)}]
    assert load_config(written) == session.config
    assert [event["event"] for event in events(path)][:3] == ["start", "evaluation", "round"]


def test_one_of_ones_own_is_found_beside_the_file(tmp_path: Path) -> None:
    source = (
        "from dataclasses import dataclass\nfrom launch.callbacks import Callback\n"
        "@dataclass(frozen=True, kw_only=True)\nclass StopAt(Callback):\n    rounds: int\n"
        "    def on_round(self, session, metrics, result):\n"
        "        if metrics['round'] == self.rounds:\n            session.pause()\n"
    )
    (tmp_path / "own_callback.py").write_text(source)
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump({**CONFIG, "callbacks": {"kind": "own_callback.StopAt", "rounds": 3}})
    )
    with Session(path) as session:
        session.run()
        assert session.round_index == 3
        again = load_config(session.config.to_mapping())
    assert again.callbacks == session.config.callbacks
    assert str(tmp_path) in again.problem.search_paths


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("lg", "callbacks.kind: unknown 'lg' (did you mean 'log'?)"),
        (["log", 3], "callbacks[1]: expected a mapping with a key 'kind', got 3"),
        ([{"kind": "log", "pth": "x"}], "callbacks[0]: unknown keys ['pth']"),
        ([{"kind": "mlflow", "experiment": " "}], "callbacks[0]: experiment: got ' '"),
        ([{"kind": "wandb", "project": ""}], "callbacks[0]: project: got ''"),
        ([{"kind": "wandb", "mode": "off"}], "callbacks[0].mode: got 'off'"),
        (["tests.tasks.Regression"], "callbacks[0]: Regression lacks ['check'"),
    ],
)
def test_a_wrong_callback_is_an_error(value: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        load_config({**CONFIG, "callbacks": value, "search_paths": [str(ROOT)]})


@pytest.mark.parametrize(
    ("callback", "module"),
    [
        (TensorBoard(), "torch.utils.tensorboard"),
        (MLflow(), "mlflow"),
        (WandB(), "wandb"),
    ],
)
def test_a_missing_package_is_an_error_before_the_run(
    callback: Callback, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'mlmc-ray\[tracking\]'"):
        Session(CONFIG, callbacks=[callback], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config = load_config({**CONFIG, "callbacks": [callback]})
    with pytest.raises(ConfigError, match=f"needs the package '{module.partition('.')[0]}'"):
        check_run(config)


def test_the_log_has_a_line_of_json_for_every_event(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Session(CONFIG, callbacks=[Log(path=str(path))]) as session:
        session.run(1)
        session._on_note("héllo")
        session.run(1)
    lines = events(path)
    names = ["start", "evaluation", "round", "evaluation", "note", "round", "evaluation", "end"]
    assert [line["event"] for line in lines] == names
    assert {line["run"] for line in lines} == {"hello world"}
    assert {line["config"] for line in lines} == {config_hash(session.config.to_mapping())}
    assert lines[0]["settings"] == session.config.to_mapping()
    assert lines[4]["text"] == "héllo"
    assert lines[5]["uplink_bytes"] == session.metrics[-1]["uplink_bytes"]
    assert "test_gap" not in lines[5]
    assert lines[6]["test_gap"] == session.metrics[-1]["test_gap"]
    assert lines[-1]["round"] == 2
    assert [handler for handler in LOGGER.handlers if handler.filters] == []


def test_the_log_names_the_error_that_ended_the_run(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with (
        pytest.raises(RoundError, match="no more"),
        Session(CONFIG, callbacks=[Log(path=str(path))]),
    ):
        raise RoundError("no more")
    error, end = events(path)[-2:]
    assert (error["event"], error["kind"], error["text"]) == ("error", "RoundError", "no more")
    assert end["event"] == "end"


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Session(CONFIG, callbacks=[Log(path=str(path))]) as session:
        session._callbacks.round(session, {"round": 1, "train_loss": float("nan")}, RoundResult())
    assert "NaN" not in path.read_text()
    assert events(path)[2]["train_loss"] is None


def test_two_logs_of_one_process_keep_to_their_own_runs(tmp_path: Path) -> None:
    def log(name: str) -> Sequence[Callback]:
        return [Log(path=str(tmp_path / name))]

    with (
        Session({**CONFIG, "name": "a"}, callbacks=log("a")) as first,
        Session({**CONFIG, "name": "b"}, callbacks=log("b")) as second,
    ):
        first.run(2)
        second.run(1)
    for name, rounds in (("a", 2), ("b", 1)):
        lines = events(tmp_path / name)
        assert {line["run"] for line in lines} == {name}
        assert [line["event"] for line in lines].count("round") == rounds


def test_without_a_path_the_log_goes_where_the_program_sends_it(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "mlmc_ray"), Session(CONFIG, callbacks=[Log()]) as session:
        session.run(1)
    assert json.loads(caplog.records[0].message)["event"] == "start"
    assert capfd.readouterr().err == ""


def test_without_a_path_and_a_place_the_log_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    callbacks = [Log()]
    with Session(CONFIG, callbacks=callbacks), Session(CONFIG, callbacks=callbacks):
        pass
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines].count("start") == 2


def test_tensorboard_gets_curves_by_rounds_and_by_bytes(tmp_path: Path) -> None:
    config = {**CONFIG, "callbacks": "tensorboard"}
    with Session(config, out=tmp_path / "run") as session:
        session.run(3)
        with session.branch("branch", out=tmp_path / "branch") as branch:
            branch.run(1)
    read = events_of_tensorboard(tmp_path / "run")
    losses = [m["train_loss"] for m in session.metrics if "train_loss" in m]
    points = [(event.step, event.value) for event in read.Scalars("round/train_loss")]
    assert points == [(r, pytest.approx(loss)) for r, loss in enumerate(losses, start=1)]
    sent = [m["uplink_bytes"] + m["downlink_bytes"] for m in session.metrics if "test_gap" in m]
    assert [event.step for event in read.Scalars("total_bytes/test_gap")] == sent
    for name in ("uplink_bytes", "downlink_bytes", "relative_error", "seconds_per_round"):
        assert f"round/{name}" in read.Tags()["scalars"]
    drawn = read.Histograms("levels")
    assert [event.step for event in drawn] == [1, 3]
    assert drawn[0].histogram_value.num == len(observed_levels(session, 0))
    read = events_of_tensorboard(tmp_path / "branch")
    assert [event.step for event in read.Scalars("round/train_loss")] == [1, 2, 3, 4]


def events_of_tensorboard(run: Path) -> Any:
    module: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    read = module.EventAccumulator(str(run / "tensorboard"), {"histograms": 0})
    return read.Reload()


def observed_levels(session: Session, index: int) -> list[int]:
    workers = session.observations[index]["workers"].values()
    return [level for seen in workers for compression in seen for level in compression["levels"]]


def test_tensorboard_has_a_place_without_a_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for callback in (TensorBoard(), TensorBoard(directory="logs")):
        for _ in range(2):
            with Session(CONFIG, callbacks=[callback]):
                pass
    for place in ("runs/tensorboard", "logs"):
        runs = sorted((tmp_path / place).iterdir())
        assert len(runs) == 2
        assert all(run.name.startswith("hello-world-") for run in runs)


def test_mlflow_gets_parameters_metrics_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        mlflow: Any = import_module("mlflow")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        tracker = MLflow(experiment="x", tracking_uri=uri, artifacts=True)
        with Session(CONFIG, callbacks=[tracker], out=tmp_path / "run") as session:
            session.run()
        with (
            pytest.raises(RoundError),
            Session({**CONFIG, "name": "bad"}, callbacks=[tracker]),
        ):
            raise RoundError("no more")
        client = mlflow.MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("x")
        runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        good = runs["hello world"]
        history = client.get_metric_history(good.info.run_id, "train_loss")
        files = {file.path for file in client.list_artifacts(good.info.run_id)}
    assert {name: run.info.status for name, run in runs.items()} == {
        "hello world": "FINISHED",
        "bad": "FAILED",
    }
    assert good.data.params["method.compressor.ladder.segment_size"] == "3"
    assert good.data.params["seed"] == "0"
    losses = [m["train_loss"] for m in session.metrics if "train_loss" in m]
    points = sorted((metric.step, metric.value) for metric in history)
    assert points == [(r, pytest.approx(loss)) for r, loss in enumerate(losses, start=1)]
    assert good.data.metrics["uplink_bytes"] == session.metrics[-1]["uplink_bytes"]
    assert {"run/config.yaml", "config.yaml"} & files


def test_wandb_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wandb: Any = import_module("wandb")
        logged: list[tuple[int, dict[str, Any]]] = []
        log = wandb.Run.log

        def recorded(run: Any, data: dict[str, Any], step: int) -> None:
            logged.append((step, data))
            log(run, data, step=step)

        monkeypatch.setattr(wandb.Run, "log", recorded)
        with Session(
            CONFIG, callbacks=[WandB(mode="offline", artifacts=True)], out=tmp_path / "run"
        ) as session:
            session.run()
    files = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 0
    assert [step for step, _ in logged] == [0, 1, 2, 3, 4]
    assert [step for step, data in logged if "levels" in data] == [1, 3]
    sent = [data["uplink_bytes"] for _, data in logged]
    assert sent == [metrics["uplink_bytes"] for metrics in session.metrics]


@pytest.mark.parametrize("callback", [MLflow(artifacts=True), WandB(artifacts=True)])
def test_a_tracked_run_ends_though_its_files_do_not_arrive(
    callback: Callback, tmp_path: Path
) -> None:
    ended: list[Any] = []

    def fail(*_: object, **__: object) -> None:
        raise OSError("no answer")

    run: Any = callback.fresh()
    run._store = fail
    run._client = SimpleNamespace(
        log_artifacts=fail, set_terminated=lambda _, status: ended.append(status)
    )
    run._run = SimpleNamespace(finish=lambda exit_code: ended.append(exit_code))
    session: Any = SimpleNamespace(directory=tmp_path, config=SimpleNamespace(name="x"))
    with pytest.raises(OSError, match="no answer"):
        run.on_end(session, None)
    assert ended in (["FINISHED"], [0])


def test_a_configuration_is_flattened() -> None:
    assert flat({"a": 1, "b": {"c": {"d": "x"}, "e": [1, {"f": 2}]}, "g": None}) == {
        "a": 1,
        "b.c.d": "x",
        "b.e": '[1, {"f": 2}]',
        "g": None,
    }


def test_a_session_keeps_its_callbacks() -> None:
    with Session(CONFIG) as session:
        with pytest.raises(ConfigError, match="callbacks has changed"):
            session.change(["callbacks=log"])
        session.run(1)
