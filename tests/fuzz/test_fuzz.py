"""A few of the mutated inputs; ``python -m tests.fuzz`` tries as many as it is asked for."""

import itertools
import os
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from mlmc_ray.errors import WireError
from tests.fuzz import found, seeds
from tests.fuzz.bounds import OutOfBounds, changing_nothing, limited_memory
from tests.fuzz.judging import Wrong, accepted
from tests.fuzz.mutations import PLAIN, changed_value
from tests.fuzz.running import CHUNK, inputs, tried
from tests.fuzz.targets import TARGETS, Target

COUNTS = {"frames": 10_000, "news": 1000, "checkpoints": 1000, "configurations": 500}


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_project_writes_is_accepted_or_another_kind(name: str) -> None:
    outcome = tried(name, iter(TARGETS[name].seeds()))
    assert outcome.wrong == {}
    assert outcome.accepted >= 0.6 * (outcome.accepted + outcome.refused)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_are_accepted_or_refused(name: str) -> None:
    made = itertools.chain.from_iterable(inputs(name, 0, chunk) for chunk in itertools.count())
    outcome = tried(name, itertools.islice(made, COUNTS[name]))
    assert outcome.wrong == {}
    assert outcome.accepted + outcome.refused == COUNTS[name]
    assert outcome.accepted > COUNTS[name] / 100
    assert outcome.refused > COUNTS[name] / 4


@pytest.mark.parametrize("path", found.kept(), ids=lambda path: path.stem)
def test_what_was_read_wrongly_once_is_read_rightly_now(path: Path) -> None:
    name, data = found.again(path)
    accepted(TARGETS[name], data)


# The search itself.


def reading(read: object) -> Target:
    return Target(seeds=list, mutated=lambda random: b"", read=read, errors=(WireError,))  # type: ignore[arg-type]


def test_the_same_seed_makes_the_same_inputs() -> None:
    for name in TARGETS:
        one, other = (list(itertools.islice(inputs(name, 3, 7), 50)) for _ in range(2))
        assert one == other
        assert len(set(one)) > 25
    assert len(list(inputs("frames", 0, 0))) == CHUNK


def test_changes_leave_the_value_alone_and_come_to_every_place() -> None:
    random, value = Random(0), {"a": [1, {"b": b"bytes"}], "c": "text", "d": 0.5}
    before = repr(value)
    changed = [changed_value(value, PLAIN, random) for _ in range(2000)]
    assert repr(value) == before
    assert any(c.get("a") == value["a"] and c.get("c") != "text" for c in changed)
    assert any(isinstance(c, dict) and "b" not in str(c.get("a")) for c in changed)


def test_another_error_is_wrong() -> None:
    def fail(data: bytes) -> None:
        raise LookupError("nothing here")

    with pytest.raises(Wrong, match=r"LookupError in test_fuzz.py:fail: nothing here"):
        accepted(reading(fail), b"")


def test_a_refusal_is_right() -> None:
    def refuse(data: bytes) -> None:
        raise WireError("x")

    assert not accepted(reading(refuse), b"")
    assert accepted(reading(lambda data: None), b"")


def test_who_takes_too_long_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.bounds.SECONDS", 0.1)

    def compute(data: bytes) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            pass

    with pytest.raises(Wrong, match=r"OutOfBounds .*: computes for more than 0.1 s"):
        accepted(reading(compute), b"")


def test_memory_that_is_not_there_is_wrong_even_in_a_refusal() -> None:
    def ask(data: bytes) -> None:
        try:
            np.ones(1 << 30)
        except MemoryError as error:
            raise WireError("refused") from error

    with limited_memory(), pytest.raises(Wrong, match="asks for too much memory"):
        accepted(reading(ask), b"")


def test_who_changes_the_disk_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with changing_nothing():
        path.read_bytes()
        for change in (path.touch, path.unlink, lambda: os.system("true")):
            with pytest.raises(OutOfBounds):
                change()
    path.unlink()


def test_what_is_kept_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "FOLDER", tmp_path)
    data = seeds.frames()[0] * 3
    path = found.keep("frames", data, "an error")
    assert found.kept() == [path]
    assert found.again(path) == ("frames", data)
    assert found.keep("frames", data, "an error") == path
