"""What callbacks are told of a change on the way, what they are called, and where log lines go."""

import io
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from launch import Session
from launch.callbacks import Callback, Log, MLflow, WandB
from launch.callbacks.log import LOGGER, config_hash
from launch.callbacks.ray_metrics import _Reporter
from launch.display.terminal import RunProgress
from mlmc_ray.errors import ConfigError
from tests.launch.test_callbacks import CONFIG, events, events_of_tensorboard

OTHER = {"kind": "sgd", "step_size": 0.002}


class Changes(Callback):
    """Remembers what has changed."""

    def __init__(self) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []

    def on_change(self, session: Session, changed: Mapping[str, Any]) -> None:
        self.told.append((session.config.to_mapping()["optimizer"]["step_size"], dict(changed)))


def changed_session(callback: Callback | str, **settings: Any) -> Session:
    """Two rounds, a change of the step size, and one more round."""
    config = {**CONFIG, "callbacks": callback} if isinstance(callback, str) else CONFIG
    callbacks = () if isinstance(callback, str) else callback
    with Session(config, callbacks=callbacks, **settings) as session:
        session.run(2)
        session.change(optimizer=OTHER)
        session.run(1)
    return session


def test_a_callback_is_told_of_a_change_once_it_is_in_force() -> None:
    changes = Changes()
    session = changed_session(changes)
    assert changes.told == [(0.002, {"optimizer": session.config.to_mapping()["optimizer"]})]


def test_nobody_is_told_of_a_change_that_was_refused() -> None:
    changes = Changes()
    with Session(CONFIG, callbacks=changes) as session:
        with pytest.raises(ConfigError):
            session.change(seed=3)
        assert changes.told == []


def test_the_log_has_a_line_for_a_change_and_then_another_hash(tmp_path: Path) -> None:
    session = changed_session(Log(path=str(tmp_path / "log.jsonl")))
    lines = events(tmp_path / "log.jsonl")
    at = [line["event"] for line in lines].index("change")
    assert (lines[at]["round"], lines[at]["changes"]["optimizer"]["step_size"]) == (2, 0.002)
    after = config_hash(session.config.to_mapping())
    assert {line["config"] for line in lines[at:]} == {after}
    assert after not in {line["config"] for line in lines[:at]}


def test_tensorboard_gets_the_configuration_again_and_what_has_changed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tracking")
    changed_session("tensorboard", out=tmp_path / "run")
    read = events_of_tensorboard(tmp_path / "run")
    texts = {
        name: [(e.step, e.tensor_proto.string_val[0].decode()) for e in read.Tensors(name)]
        for name in ("config/text_summary", "change/text_summary")
    }
    assert [step for step, _ in texts["config/text_summary"]] == [0, 2]
    [(step, change)] = texts["change/text_summary"]
    assert step == 2
    assert "step_size: 0.002" in change
    assert "method" not in change


def test_mlflow_gets_a_tag_for_each_change() -> None:
    run: Any = MLflow().fresh()
    tags: dict[str, str] = {}
    run._client = SimpleNamespace(set_tag=lambda _, name, text: tags.update({name: text}))
    with Session(CONFIG) as session:
        session.run(2)
        run.on_change(session, {"optimizer": OTHER})
        run.on_change(session, {"workers": 9})
        run.on_change(session, {"problem": {"kind": "x" * 5000}, "workers": 9})
    assert {name: json.loads(text) for name, text in tags.items()} == {
        "change_1": {"round": 2, "changes": {"optimizer": OTHER}},
        "change_2": {"round": 2, "changes": {"workers": 9}},
        "change_3": {"round": 2, "changes": ["problem", "workers"]},
    }


def test_wandb_shows_the_configuration_in_force(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("wandb", reason="needs the extra tracking")
        with Session(CONFIG) as session:
            run: Any = WandB(mode="offline", directory=str(tmp_path)).fresh()
            run.on_start(session)
            session.change(optimizer=OTHER)
            run.on_change(session, {"optimizer": OTHER})
            assert run._run.config["optimizer"]["step_size"] == 0.002
            run.on_end(session, None)


def test_metrics_of_ray_are_tagged_with_the_method_in_force() -> None:
    reporter = _Reporter()
    tags: dict[str, str] = {}
    reporter._metrics["x"] = SimpleNamespace(set_default_tags=tags.update)
    with Session(CONFIG) as session:
        session.change(method="sgd", name="other")
        reporter.on_change(session, {})
    assert tags == {"run": "other", "method": "sgd"}


def test_one_that_fails_is_called_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.callbacks.log.measure_names", lambda metrics: 1 / 0)
    notes: list[str] = []
    with Session({**CONFIG, "callbacks": "log"}, on_note=notes.append):
        pass
    assert notes[0].startswith("callback log failed in on_start and is told nothing more")


def test_one_that_fails_before_the_run_is_called_by_its_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(Log, "fresh", fail)
    with pytest.raises(ConfigError, match=r"log\.fresh failed: .*; mend it, or leave log out"):
        Session({**CONFIG, "callbacks": "log"})


class Terminal(io.StringIO):
    """Looks like a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("error", [io.StringIO(), Terminal()])
def test_log_lines_go_above_the_progress_or_into_the_file_that_was_asked_for(
    error: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.setattr(LOGGER, "handlers", [])
    monkeypatch.setattr("logging.root.handlers", [])
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=2000)
    with RunProgress(console, "x", 2) as progress:
        progress.begin("gap")
        with Session(CONFIG, callbacks=[progress, Log()]) as session:
            session.run(2)
    log, other = (shown, error) if error.isatty() else (error, shown)
    assert log.getvalue().count('"event":"round"') == 2
    assert '"event"' not in other.getvalue()
