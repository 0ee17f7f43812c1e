"""Parts of an iteration: each counts for what it is, and together they are the round."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Generator, Tensor
from typer.testing import CliRunner, Result

import benchmarks.iteration_time.measuring as measuring
import mlmc_ray.replica
import server.broadcast
import server.server
import workers.host
import workers.inbox
from benchmarks.iteration_time.__main__ import app
from benchmarks.iteration_time.figure import draw
from benchmarks.iteration_time.measuring import cluster_for, entries_of, measure
from benchmarks.iteration_time.parts import (
    COMPRESS,
    DECODE,
    DOWNLINK,
    GRADIENT,
    OPTIMIZER,
    OTHER,
    PARTS,
    WIRE,
    parts_in_process,
    parts_on_ray,
)
from benchmarks.iteration_time.report import read
from benchmarks.timed import stopwatch
from benchmarks.timed.stopwatch import Lap, Stopwatch, seconds_of
from launch.configuration.run_config import RunConfig, load_config
from mlmc_ray.compressors import TopK
from mlmc_ray.errors import ConfigError, RoundError
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.payloads import Payload
from tests.tasks import Regression

SLOW_MODULE = """
import time
from dataclasses import dataclass

from mlmc_ray.compressors import TopK

@dataclass(frozen=True, kw_only=True)
class Slow:
    k: int
    unbiased = False

    def compress(self, vector, *, generator):
        time.sleep(0.03)
        return TopK(k=self.k).compress(vector, generator=generator)

    def omega(self, dim):
        return None

    def alpha(self, dim):
        return self.k / dim

    def paper_cost(self, dim):
        return None
"""
COMPARISON = """
problem: tests.tasks.Regression
method: {kind: ef21-sgdm, momentum: 0.1, compressor: {kind: top-k, k: 3}}
optimizer: {kind: sgd, step_size: 0.001}
workers: 2
batch_size: 4
compare:
- name: SGD
  method: sgd
- name: quick
- name: slow
  method: {compressor: {kind: MODULE.Slow, k: 3}}
- name: relayed
  downlink: relay
"""
ASYNCHRONOUS = {"kind": "async-sgd", "compressor": "identity", "policy": "damp-cap"}


class _Clock:
    """A clock that stands still but for what is done slowly."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def slowly(self, function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def outer(*args: Any, **kwargs: Any) -> Any:
            self.now += seconds
            return function(*args, **kwargs)

        return outer


CLOCK = _Clock()


@dataclass(frozen=True, kw_only=True)
class SlowTopK:
    """One's own compressor, which takes 5 s."""

    k: int
    unbiased = False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        CLOCK.now += 5.0
        return TopK(k=self.k).compress(vector, generator=generator)

    def omega(self, dim: int) -> None:
        return None

    def alpha(self, dim: int) -> float:
        return self.k / dim

    def paper_cost(self, dim: int) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class SlowRegression(Regression):
    """A problem of which a loss takes 5 s, and drawing a batch 2."""

    def loss(self, model: torch.nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        CLOCK.now += 5.0
        return Regression.loss(self, model, batch)

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> Any:
        shard = Regression.shard(self, worker_id, num_workers, generator)
        return _SlowShard(shard)


class _SlowShard:
    def __init__(self, shard: Any) -> None:
        self._shard = shard

    def sample(self, size: int, generator: Generator) -> Any:
        CLOCK.now += 2.0
        return self._shard.sample(size, generator)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    monkeypatch.setattr(stopwatch, "time", CLOCK)
    return CLOCK


def _config(**settings: Any) -> RunConfig:
    return load_config(
        {
            "problem": "tests.tasks.Regression",
            "method": {
                "kind": "ef21-sgdm",
                "momentum": 0.1,
                "compressor": {"kind": "top-k", "k": 3},
            },
            "optimizer": {"kind": "sgd", "step_size": 0.001},
            "workers": 2,
            "batch_size": 4,
            "engine": "inline",
            **settings,
        }
    )


def _seconds(config: RunConfig) -> dict[str, float]:
    """Return the median of every part that is not zero, in seconds."""
    found = measure(config, rounds=3, warm_up=1)["ms"]
    return {name: quartiles[1] / 1e3 for name, quartiles in found.items() if quartiles[1]}


def test_a_part_rests_while_another_runs_inside_it(clock: _Clock) -> None:
    watch = Stopwatch()
    with watch.part("outer"):
        clock.now += 1
        with suppress(KeyError), watch.part("inner"):
            clock.now += 2
            raise KeyError
        clock.now += 4
    clock.now += 8
    with watch.part("outer"):
        clock.now += 16
    assert seconds_of(watch.laps) == {"outer": 21, "inner": 2}
    assert [lap.part for lap in watch.laps] == ["outer", "inner", "outer", "outer"]
    watch.restart()
    assert watch.laps == []


def test_work_on_a_gpu_counts_for_who_started_it(clock: _Clock) -> None:
    waiting = [0.0]

    def settle() -> None:
        clock.now += waiting.pop() if waiting else 0.0

    watch = Stopwatch(settle)
    waiting.clear()
    with watch.part("server"):
        with watch.part("gradient"):
            waiting.append(3.0)
        with watch.part("compress"):
            clock.now += 1
    assert seconds_of(watch.laps) == {"server": 0, "gradient": 3, "compress": 1}


def test_every_look_at_the_clock_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []
    monkeypatch.setattr(measuring, "synchronize", seen.append)
    measure(_config(), rounds=1, warm_up=0)
    assert set(seen) == {torch.device("cpu")}
    assert len(seen) >= 20  # two looks a part, and more than ten parts


@pytest.mark.parametrize(
    ("owner", "name", "part", "times"),
    [
        (workers.host, "encode", COMPRESS, 2),
        (server.server, "decode", DECODE, 2),
        (mlmc_ray.replica.Replica, "_average_statistics", DECODE, 1),
        (mlmc_ray.replica, "all_finite", OPTIMIZER, 1),
        (server.broadcast.Broadcast, "frames", DOWNLINK, 1),
        (server.broadcast.Broadcast, "close", DOWNLINK, 1),
        (workers.inbox.Inbox, "_take_all", DOWNLINK, 1),
        (server.server.ParameterServer, "_check_asked", OTHER, 1),
    ],
)
def test_what_is_slow_counts_for_its_part(
    owner: Any, name: str, part: str, times: int, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, clock.slowly(getattr(owner, name), 5.0))
    assert _seconds(_config()) == {"round": 5.0 * times, part: 5.0 * times}


def test_a_slow_compressor_and_a_slow_problem_count_for_theirs(clock: _Clock) -> None:
    slow = _config(
        problem="tests.benchmarks.test_iteration_time.SlowRegression",
        method={
            "kind": "ef21-sgdm",
            "momentum": 0.1,
            "compressor": {"kind": "tests.benchmarks.test_iteration_time.SlowTopK", "k": 3},
        },
    )
    assert _seconds(slow) == {"round": 24, GRADIENT: 14, COMPRESS: 10}


def test_a_replica_that_takes_the_step_of_relayed_reports_is_downlink(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = clock.slowly(all_finite, 5.0)
    monkeypatch.setattr(mlmc_ray.replica, "all_finite", slow)
    found = _seconds(_config(downlink="relay"))
    assert found == {"round": 10, OPTIMIZER: 5, DOWNLINK: 5}


def test_bars_are_of_the_middle_half_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [
        {"round": a + b, **dict.fromkeys(PARTS, 0.0), GRADIENT: a, OTHER: b}
        for a, b in [(0.9, 0.0), (1, 1), (0, 0.1), (2, 0), (9, 9), (0, 3), (3, 0), (0, 0), (50, 0)]
    ]
    monkeypatch.setattr(measuring, "_rounds_inline", lambda _: (parts for parts in rounds))
    found = measure(_config(), rounds=8, warm_up=1)
    middle = {name: value for name, value in found["middle_ms"].items() if value}
    assert middle == {"round": 2500, GRADIENT: 1500, OTHER: 1000}  # of 2, 2, 3 and 3 s
    assert found["ms"]["round"] == [1525, 2500, 6750]


def test_moments_on_ray_are_shared_out_among_the_hosts_at_work() -> None:
    server_laps = [
        Lap("rest", 10, 11),
        Lap("news", 11, 13),
        Lap("send", 13, 14),
        Lap("collect", 14, 18),
        Lap("decode", 18, 22),
        Lap("collect", 22, 30),
        Lap("decode", 30, 31),
        Lap("optimizer", 31, 33),
        Lap("rest", 33, 34),
    ]
    hosts = [
        [Lap("read", 15, 16), Lap("gradient", 16, 18)],
        [Lap("gradient", 17, 21), Lap("compress", 21, 27), Lap("call", 27, 28)],
        [],
    ]
    parts = parts_on_ray(server_laps, hosts, call_s=25)
    assert parts == {
        GRADIENT: 1 + 1 + 3,
        COMPRESS: 6,
        WIRE: 1 + 1 + 1 + 2,
        DECODE: 1,  # four more seconds of it are hidden by a gradient
        OPTIMIZER: 2,
        DOWNLINK: 2 + 1,
        OTHER: 1 + 1 + 1,
    }
    assert sum(parts.values()) == 25


def test_clocks_that_differ_are_refused() -> None:
    server_laps = [Lap("collect", 10, 20)]
    with pytest.raises(RoundError, match=r"worked from 9\.5.* their clocks differ"):
        parts_on_ray(server_laps, [[Lap("gradient", 9.5, 12)]], call_s=11)


def test_parts_of_one_process_are_the_round() -> None:
    laps = [Lap("rest", 0, 1), Lap("encode", 1, 3), Lap("compress", 3, 7), Lap("rest", 7, 15)]
    assert parts_in_process(laps) == {**dict.fromkeys(PARTS, 0.0), COMPRESS: 6, OTHER: 9}


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    module = f"{tmp_path.name}_slow"  # two tests import two modules
    (tmp_path / f"{module}.py").write_text(SLOW_MODULE)
    path = tmp_path / "comparison.yaml"
    path.write_text(COMPARISON.replace("MODULE", module))
    return path


def _check(entries: list[dict[str, Any]]) -> None:
    """The parts of every entry are its round."""
    for entry in entries:
        assert list(entry["ms"]) == list(entry["middle_ms"]) == ["round", *PARTS]
        whole, *parts = entry["middle_ms"].values()
        assert sum(parts) == pytest.approx(whole, rel=1e-9)
        assert all(part >= 0 for part in parts)
        assert entry["middle_ms"][GRADIENT] > 0
        assert entry["parameters"] == 29
        assert entry["settings"]["workers"] == 2


def test_every_entry_is_measured_kept_and_drawn(
    comparison: Path, tmp_path: Path, forgetting: None
) -> None:
    kept, picture = tmp_path / "new" / "cpu.json", tmp_path / "figures" / "cpu.png"
    args = ("run", comparison, "--rounds", 4, "--warm-up", 1, "--set", "seed=3")
    done = _run(*args, "--json", kept, "--figure", picture)
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    results = read(kept)
    _check(results["entries"])
    assert results["rounds"] == 4
    assert results["warm_up"] == 1
    assert results["machine"]["torch"] == torch.__version__
    entries = {entry["name"]: entry for entry in results["entries"]}
    assert list(entries) == ["SGD", "quick", "slow", "relayed"]
    assert entries["relayed"]["settings"]["downlink"] != entries["quick"]["settings"]["downlink"]
    assert {entry["settings"]["seed"] for entry in entries.values()} == {3}
    assert entries["slow"]["ms"][COMPRESS][0] >= 60  # two workers that sleep in turn
    assert all(entry["middle_ms"][WIRE] == 0 for entry in entries.values())

    drawn = _run("report", kept, kept, "--figure", tmp_path / "both.svg")
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "both.svg").read_text().startswith("<?xml")
    heading, _, head, _, *rows = drawn.output.split("\n\n29 ")[0].splitlines()
    assert heading == "29 parameters, 2 workers, CPU, one process, no wire:"
    assert head == f"| ms | round | {' | '.join(PARTS)} |"
    assert [row.split(" | ")[0] for row in rows] == ["| SGD", "| quick", "| slow", "| relayed"]
    wire = 2 + list(PARTS).index(WIRE)
    assert all(row.strip("| ").split(" | ")[wire] == "-" for row in rows)


def test_bars_are_as_long_as_the_parts(comparison: Path, tmp_path: Path, forgetting: None) -> None:
    kept = tmp_path / "cpu.json"
    assert _run("run", comparison, "--rounds", 1, "--json", kept).exit_code == 0
    results = read(kept)
    for entry in results["entries"]:
        entry["middle_ms"] = {"round": 28.0} | {
            name: float(i) for i, name in enumerate(PARTS, start=1)
        }
        entry["ms"]["round"] = [20.0, 28.0, 30.0]
    on_ray = {**results, "engine": "ray", "machine": {"gpu": "some GPU"}}
    figure = draw([results, on_ray])
    for axes in figure.axes:
        bars: list[Any] = list(axes.patches)
        ends = [bar.get_x() + bar.get_width() for bar in bars]
        assert ends == [end for end in (1, 3, 6, 10, 15, 21, 28) for _ in results["entries"]]
        assert [text.get_text() for text in axes.texts] == ["28"] * 4
    assert [text.get_text() for text in figure.legends[0].texts] == list(PARTS)
    alone = draw([results]).legends[0].texts
    assert [text.get_text() for text in alone] == [name for name in PARTS if name != WIRE]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"machine": {}, "runs": []}))
    refused = _run("report", other)
    assert refused.exit_code == 2
    assert "has no times of the parts" in " ".join(refused.output.replace("│", "").split())
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / "absent.json")
    other.write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        read(other)


@pytest.mark.parametrize(
    ("engine", "second", "message"),
    [
        ("inline", {"name": "SGD"}, r"several entries have the names \['SGD'\]"),
        ("inline", {"servers": 2}, "second: servers is 2.* give servers: 1"),
        ("inline", {"worker": 3}, "worker"),
        ("inline", {"method": {"compressor": {"k": 300}}}, "second: .*300"),
        ("ray", {"method": "sgd", "quorum": {"reports": 1}}, "second: .* leave quorum out"),
        ("ray", {"address": "10.0.0.1:6379"}, r"address is '10\.0\.0\.1:6379', leave it out"),
        ("ray", {"method": ASYNCHRONOUS}, "second: .* the method waits for none"),
    ],
)
def test_entries_that_cannot_be_timed_are_refused_before_any_is(
    engine: measuring.EngineName, second: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "comparison.yaml"
    values = yaml.safe_load(COMPARISON)
    values["compare"] = [{"name": "SGD", "method": "sgd"}, {"name": "second", **second}]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=message):
        entries_of(str(path), [], engine)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    refused = _run("run", tmp_path / "absent.yaml")
    assert refused.exit_code == 2
    assert "absent.yaml" in refused.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_none_is_timed(comparison: Path, forgetting: None) -> None:
    refused = _run("run", comparison, "--set", "device=cuda")
    assert refused.exit_code == 2
    assert "torch finds no GPU" in refused.output


@pytest.mark.ray
@pytest.mark.slow
def test_hosts_on_ray_are_measured_part_by_part(
    comparison: Path, cluster: None, forgetting: None
) -> None:
    configs = entries_of(str(comparison), ["actors=2"], "ray")[2:]
    with cluster_for("ray"):
        slow, relayed = (measure(config, rounds=4, warm_up=2) for config in configs)
    _check([slow, relayed])
    assert slow["ms"][COMPRESS][0] >= 30  # both sleep at a time, or one after the other
    assert slow["ms"][WIRE][0] > 0
    assert relayed["ms"][WIRE][0] > 0
