"""What is said of methods that do not fit the model, the workers, the ladder or the rounds."""

import dataclasses
from typing import Any

import pytest
import torch

from launch import Session
from launch.configuration.fitting import check_fit, notes_on
from launch.configuration.run_config import RunConfig, load_config
from mlmc_ray.errors import ConfigError
from mlmc_ray.problems import initial_model


def config_of(method: Any, **changes: Any) -> RunConfig:
    return load_config(
        {
            "problem": {"kind": "quadratic", "num_functions": 3, "dim": 8},
            "method": method,
            "optimizer": {"kind": "sgd", "step_size": 0.125},
            "workers": 3,
            "engine": "inline",
            **changes,
        }
    )


def compressed(**compressor: Any) -> dict[str, Any]:
    return {"kind": "compressed-sgd", "compressor": compressor}


SHADOWHEART = {"kind": "shadowheart", "compressor": "perm-k", "noise": 1}

REFUSED: dict[str, Any] = {
    "method.compressor.k is 9, and the model has 8 parameters: give at most that many, or a "
    "fraction such as 0.01": compressed(kind="top-k", k=9),
    "method.compressor.k is 5, and 8 parameters are 3 segments of segment_size 3: give at most "
    "that many": compressed(kind="s-top-k", k=5, segment_size=3),
    "method.participants is 4, and there are 3 workers: give at most that many": {
        "kind": "partial-participation",
        "method": "sgd",
        "participants": 4,
    },
    "method.method.compressor.k is 9, and the model has 8 parameters: give at most that many, or "
    "a fraction such as 0.01": {
        "kind": "partial-participation",
        "method": compressed(kind="top-k", k=9),
        "participants": 2,
    },
    "method.compute_s has 2 numbers, and there are 3 workers: give one for each, or one number "
    "for all": {**SHADOWHEART, "compute_s": [1, 2], "message_s": 1},
    "method.message_s has 4 numbers, and there are 3 workers: give one for each, or one number "
    "for all": {**SHADOWHEART, "compute_s": 1, "message_s": [1, 2, 3, 4]},
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_asks_for_more_than_there_is_is_refused(text: str) -> None:
    config = config_of(REFUSED[text])
    with pytest.raises(ConfigError) as caught:
        check_fit(config, initial_model(config.problem.load(), config.seed))
    assert str(caught.value) == text


def test_a_gpu_that_is_not_here_is_refused_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = dataclasses.replace(config_of("sgd"), engine="inline", device="cuda")
    model = initial_model(config.problem.load(), config.seed)
    with pytest.raises(ConfigError, match=r"^device is cuda, and torch finds no GPU here: torch "):
        check_fit(config, model)
    check_fit(dataclasses.replace(config, engine="ray"), model)  # its hosts see for themselves


def test_a_session_without_a_gpu_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with Session(config_of("sgd", rounds=2)) as session:
        session.run(1)
        with pytest.raises(ConfigError, match="device is cuda, and torch finds no GPU here"):
            session.change(device="cuda")
        session.run(1)
        assert session.config.device == "cpu"


def test_a_model_too_small_for_an_autoencoder_is_refused() -> None:
    config = config_of({"kind": "learned", "k": 2, "edge_layers": 2})
    with pytest.raises(ConfigError, match=r"^method: edge_layers is 2, and the model has 1 p"):
        check_fit(config, initial_model(config.problem.load(), config.seed))


def test_a_run_that_never_compresses_is_told_what_to_lower() -> None:
    learned = {"kind": "learned", "k": 2, "dense_rounds": 5, "training_rounds": 3}
    assert notes_on(config_of(learned, rounds=8)) == [
        "nothing will be compressed: rounds is 8, and the first 8 are dense (5) or train the "
        "autoencoder (3); lower method.dense_rounds and method.training_rounds, or run more"
    ]
    assert notes_on(config_of(learned, rounds=9)) == []
    assert notes_on(config_of("sgd")) == []


def test_actors_without_a_worker_are_told() -> None:
    assert notes_on(config_of("sgd", actors=8, engine="ray")) == [
        "actors is 8, and there are 3 workers: 3 processes host them"
    ]
    assert notes_on(config_of("sgd", actors=3, engine="ray")) == []
    assert notes_on(config_of("sgd", actors=8)) == []  # one process, whatever actors is


@pytest.mark.parametrize("ladder", [{"kind": "s-top-k", "segment_size": 3}, "top-k"])
def test_a_ladder_without_a_law_of_its_own_is_told_the_others(ladder: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(compressed(kind="mlmc", ladder=ladder, law="own"))
    assert str(caught.value) == (
        "configuration: method.compressor: law 'own': this ladder has no fixed law of its own; use "
        "'adaptive', 'cost-aware' or 'given'"
    )


def test_runs_with_a_penalty_say_what_is_measured() -> None:
    proximal = {"kind": "proximal-sgd", "step_size": 0.1, "l1": 0.5}
    (note,) = notes_on(config_of("sgd", optimizer=proximal))
    assert note.startswith("gap and the problem's other measures leave the l1 and l2 terms out")
    assert notes_on(config_of("sgd", optimizer={**proximal, "l1": 0})) == []
    scaffnew = {"kind": "scaffnew", "step_size": 0.1, "probability": 0.5}
    (note,) = notes_on(config_of({**scaffnew, "l1": 0.5}, optimizer=None))
    assert "leave the l1 term out" in note
    assert notes_on(config_of(scaffnew, optimizer=None)) == []


DELTA, RELAY = {"downlink": "delta"}, {"downlink": "relay"}
SGD = {"kind": "sgd", "step_size": 0.125}
ADAM, ADAMW = ({"kind": kind, "step_size": 0.1} for kind in ("adam", "adamw"))
PROXIMAL = {"kind": "proximal-sgd", "step_size": 0.1, "l1": 0.5}
TOP_K = compressed(kind="top-k", k=2)
MOVING: list[tuple[str, Any, dict[str, Any]]] = [
    ("an optimizer with momentum", TOP_K, {**SGD, "momentum": 0.5}),
    ("an optimizer with momentum", TOP_K, {**SGD, "momentum": 0.5, "nesterov": True}),
    ("an optimizer with momentum", TOP_K, ADAM),
    ("an optimizer with momentum", TOP_K, ADAMW),
    ("weight decay", TOP_K, {**SGD, "weight_decay": 0.5}),
    ("the proximal step", TOP_K, PROXIMAL),
    ("uncompressed messages", "sgd", SGD),
    ("uncompressed messages", compressed(kind="identity"), SGD),
    ("the memory of ef21-sgdm", {**TOP_K, "kind": "ef21-sgdm"}, SGD),
    ("the memory of diana", {"kind": "diana", "compressor": {"kind": "rand-k", "k": 2}}, SGD),
]


@pytest.mark.parametrize(("what", "method", "optimizer"), MOVING)
def test_a_delta_that_is_everything_is_told(what: str, method: Any, optimizer: Any) -> None:
    some = {"kind": "partial-participation", "method": method, "participants": 2}
    for own in (method, some):
        others = notes_on(config_of(own, optimizer=optimizer))
        notes = notes_on(config_of(own, optimizer=optimizer, **DELTA))
        (note,) = [line for line in notes if line not in others]
        assert note == (
            f"downlink delta will save little: with {what} every step moves every entry, or all "
            "that were ever sent, and frames come to be as long as those of full; give downlink: "
            "relay, half or full"
        )


def test_a_delta_of_few_entries_is_not_told() -> None:
    for method in (TOP_K, {**TOP_K, "kind": "ef"}, {**TOP_K, "kind": "coco-ef"}):
        assert notes_on(config_of(method, **DELTA)) == []
    assert notes_on(config_of(TOP_K, optimizer={**PROXIMAL, "l1": 0}, **DELTA)) == []


@pytest.mark.parametrize("method", ["sgd", compressed(kind="identity")])
def test_reports_that_are_longer_than_the_parameters_are_told(method: Any) -> None:
    (note,) = notes_on(config_of(method, **RELAY))
    assert note == (
        "downlink relay will cost more than full: reports are not compressed, so that those of a "
        "round are at least as long as the parameters, and full copies are sent, with all that "
        "optimizer and method remember, three times as long with Adam; give downlink: full or half"
    )
    assert notes_on(config_of(TOP_K, optimizer=ADAM, **RELAY)) == []


def test_the_counts_of_the_downlink_are_checked() -> None:
    downlink = {"kind": "compressed", "compressor": {"kind": "top-k", "k": 9}}
    config = config_of("sgd", downlink=downlink)
    with pytest.raises(
        ConfigError, match=r"^downlink\.compressor\.k is 9, and the model has 8 par"
    ):
        check_fit(config, initial_model(config.problem.load(), config.seed))
