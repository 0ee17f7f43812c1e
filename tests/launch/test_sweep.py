"""Sweeps: which settings, which is the best, what a repeated command does, what is refused."""

import json
import math
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

from launch import Session
from launch.commands.sweep import sweep as command
from launch.configuration.run_config import load_config, load_variants
from launch.configuration.source import read_source
from launch.locking import exclusive
from launch.many.apart import Tell, _Child, _give, run_apart
from launch.many.lock import locked
from launch.many.parallel import check_parallel
from launch.sweeps.grid import Axis, parse_axis, parse_numbers, settings_of
from launch.sweeps.outcome import Outcome
from launch.sweeps.plan import Sweep, SweepOptions, plan_sweep, rungs
from launch.sweeps.report import draw_sweep, remarks, short_names
from launch.sweeps.sweep import sweep_into
from launch.sweeps.trial import Trial, run_trial
from mlmc_ray.errors import ConfigError, NonFiniteError, ProblemError, RoundError

CONFIG: dict[str, Any] = {
    "name": "small",
    "problem": {"kind": "quadratic", "num_functions": 2, "dim": 4, "noise": 0.5},
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.05},
    "seed": 3,
    "workers": 2,
    "rounds": 9,
    "evaluate_every": 4,
    "engine": "inline",
}
STEPS = Axis(key="optimizer.step_size", values=(0.05, 1e30, 0.001))
TWO_STEPS = Axis(key="optimizer.step_size", values=(0.05, 0.1))
QUIET = Console(quiet=True)

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(command)


def run(*arguments: object) -> Result:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)


def planned(**changes: Any) -> Sweep:
    return plan_sweep(CONFIG, SweepOptions(**{"axes": (STEPS,), **changes}))


def best(outcomes: dict[str, list[Outcome]]) -> dict[str, Any]:
    return {entry: dict(ranking[0].candidate.settings) for entry, ranking in outcomes.items()}


# Keys and values.


@pytest.mark.parametrize(
    ("text", "values", "logarithmic"),
    [
        ("a=1,2,3", (1, 2, 3), False),
        ("a=0.01,0.1,1", (0.01, 0.1, 1), True),
        ("a.b=x,[1, 2],{c: d}", ("x", [1, 2], {"c": "d"}), False),
        ("a=log:1e-3..1:4", (0.001, 0.01, 0.1, 1.0), True),
        ("a=log:1..1000:4", (1, 10, 100, 1000), True),
        ("a=lin:0..1:5", (0, 0.25, 0.5, 0.75, 1), False),
        ("a=lin:0.12345678..1.2345678:2", (0.12345678, 1.2345678), True),
        ("a=log:1..12345678:2", (1, 12345678), True),
        ("a=true,false", (True, False), False),
    ],
)
def test_an_axis_is_read(text: str, values: tuple[Any, ...], logarithmic: bool) -> None:
    axis = parse_axis(text)
    assert axis.values == values
    assert axis.logarithmic is logarithmic


def test_a_range_of_whole_numbers_holds_whole_numbers() -> None:
    assert [type(value) for value in parse_axis("k=log:1..1000:4").values] == [int] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "expected key=values"),
        ("a..b=1", "expected key=values"),
        ("a=", "no values"),
        ("a=1,1", "1 is given twice"),
        ("a=[", "not YAML"),
        ("a=log:0..1:3", "above 0"),
        ("a=log:1..2", "expected log:FIRST..LAST:COUNT"),
        ("a=lin:1..2:1", "2 to 10000"),
        ("a=lin:1..inf:3", "finite"),
        ("seed=1,2", "--seeds"),
        ("rounds=1,2", "--at-rounds"),
    ],
)
def test_a_wrong_axis_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        parse_axis(text)


def test_settings_are_all_combinations() -> None:
    axes = [Axis(key="a", values=(1, 2)), Axis(key="b", values=("x", "y"))]
    assert [tuple(s.values()) for s in settings_of(axes)] == [
        (1, "x"),
        (1, "y"),
        (2, "x"),
        (2, "y"),
    ]
    with pytest.raises(ConfigError, match="nothing to sweep"):
        settings_of([])
    with pytest.raises(ConfigError, match="--over a is given twice"):
        settings_of([axes[0], axes[0]])
    with pytest.raises(ConfigError, match="1000000 settings"):
        settings_of([Axis(key=key, values=tuple(range(1000))) for key in "ab"])


def test_numbers_go_on_in_their_ratio() -> None:
    assert parse_numbers("--workers", "1,2,4,...,32") == (1, 2, 4, 8, 16, 32)
    assert parse_numbers("--workers", "1, 2, ..., 4, 7") == (1, 2, 4, 7)
    for wrong in ("", "a", "1,...", "1,...,4", "1,2,...,7", "2,1,...,8", "0,0,...,8"):
        with pytest.raises(ConfigError, match="--workers"):
            parse_numbers("--workers", wrong)


@pytest.mark.parametrize(
    ("rounds", "number", "expected"),
    [(90, 1, (90,)), (90, 2, (90,)), (90, 3, (30, 90)), (90, 8, (30, 90)), (2, 27, (1, 2))],
)
def test_rungs(rounds: int, number: int, expected: tuple[int, ...]) -> None:
    assert rungs(rounds, number) == expected


# Running.


def test_the_measures_are_those_of_sessions(tmp_path: Path) -> None:
    sweep = planned(at_rounds=(3, 5), seeds=2)
    outcomes = sweep_into(sweep, tmp_path, QUIET)["small"]
    assert [o.candidate.settings["optimizer.step_size"] for o in outcomes] == [0.05, 0.001, 1e30]
    for outcome in outcomes[:2]:
        for rounds in (3, 5):
            gaps = []
            for seed in (3, 4):
                config = load_config(outcome.candidate.config, [f"seed={seed}"])
                with Session(config) as session:
                    session.run(rounds)
                    gaps.append(session.evaluate()["gap"])
            assert outcome.measured[rounds] == tuple(gaps)
            assert outcome.mean(rounds) == sum(gaps) / 2


def test_what_diverges_is_the_worst_and_says_so(tmp_path: Path) -> None:
    for measure, side in (("gap", "lowest"), ("squared_distance", "highest")):
        out = tmp_path / measure
        outcomes = sweep_into(planned(measure=measure, best=side), out, QUIET)["small"]
        assert outcomes[-1].candidate.settings == {"optimizer.step_size": 1e30}
        assert outcomes[-1].mean(9) is None
        assert "round" in outcomes[-1].diverged[0]


def test_only_numbers_that_are_not_finite_diverge(monkeypatch: pytest.MonkeyPatch) -> None:
    config = planned().candidates[0].config.to_mapping()
    trial = Trial(config=config, measure="gap", at_rounds=(9,))
    error: Exception = RoundError("round 2: no update from workers [0] within 60 s")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Session, "run", fail)
    with pytest.raises(RoundError, match="no update"):
        run_trial(trial, lambda _: None)
    error = NonFiniteError("3 of 4 entries are NaN or infinite")
    assert "NaN" in run_trial(trial, lambda _: None)["diverged"]


def test_halving_falls_back_to_the_best_that_is_finite(tmp_path: Path) -> None:
    steps = Axis(key="optimizer.step_size", values=(0.05, 0.02, 0.01))
    sweep = planned(axes=(steps,), halving=True, at_rounds=(3, 9))
    sweep_into(sweep, tmp_path, QUIET)
    file = tmp_path / "results.json"
    content = json.loads(file.read_text())
    (last,) = (name for name in content["results"] if name.endswith("round 9"))
    content["results"][last]["diverged"] = "round 7: the parameters are no longer finite"
    del content["results"][last]["measured"]["9"]
    file.write_text(json.dumps(content))
    outcomes = sweep_into(sweep, tmp_path, QUIET)["small"]
    assert [outcome.rounds for outcome in outcomes] == [3, 3, 9]
    assert outcomes[0].measured[3] < outcomes[1].measured[3]
    text = (tmp_path / "best.yaml").read_text()
    assert "after round 3: all that went on diverged" in text
    chosen = load_config(tmp_path / "best.yaml").optimizer
    assert chosen is not None
    assert chosen.step_size == outcomes[0].candidate.settings["optimizer.step_size"]
    (line, *_) = remarks(sweep, {"small": outcomes})
    assert "all that went on after round 3 diverged" in line


def test_all_diverged_leaves_no_best(tmp_path: Path) -> None:
    sweep = planned(axes=(Axis(key="optimizer.step_size", values=(1e30, 1e31)),))
    outcomes = sweep_into(sweep, tmp_path, QUIET)
    assert not (tmp_path / "best.yaml").exists()
    assert (tmp_path / "figure.png").exists()
    assert "all settings diverged" in remarks(sweep, outcomes)[0]


def test_halving_gives_each_rung_a_third(tmp_path: Path) -> None:
    steps = parse_axis("optimizer.step_size=log:1e-5..0.1:9")
    sweep = planned(axes=(steps,), halving=True)
    assert sweep.at_rounds == (1, 3, 9)
    halved = sweep_into(sweep, tmp_path / "halved", QUIET)["small"]
    assert [outcome.rounds for outcome in halved] == [9, 3, 3] + [1] * 6
    full = sweep_into(planned(axes=(steps,), at_rounds=(1, 3, 9)), tmp_path / "full", QUIET)[
        "small"
    ]
    by_setting = {outcome.candidate.label: outcome for outcome in full}
    for rounds, places in ((1, 3), (3, 1)):
        alive = [by_setting[o.candidate.label] for o in halved if o.rounds >= rounds]
        alive.sort(key=lambda outcome: outcome.measured[rounds])
        survivors = {o.candidate.label for o in halved if o.rounds > rounds}
        assert {outcome.candidate.label for outcome in alive[:places]} == survivors
    for outcome in halved:
        measured = by_setting[outcome.candidate.label].measured
        assert outcome.measured == {r: v for r, v in measured.items() if r <= outcome.rounds}


def test_parallel_runs_measure_the_same(tmp_path: Path) -> None:
    one = sweep_into(planned(seeds=2), tmp_path / "one", QUIET)["small"]
    two = sweep_into(planned(seeds=2), tmp_path / "two", QUIET, processes=2)["small"]
    assert [(o.candidate.label, o.measured) for o in one] == [
        (o.candidate.label, o.measured) for o in two
    ]


def test_an_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    sweep_into(planned(), tmp_path, QUIET)
    file = tmp_path / "results.json"
    content = json.loads(file.read_text())
    first, second, third = content["results"]
    del content["results"][third]
    content["results"][first]["measured"]["9"] = -1.0  # to see that it is not run again
    file.write_text(json.dumps(content))
    console = Console(record=True, quiet=True)
    outcomes = sweep_into(planned(), tmp_path, console)["small"]
    assert outcomes[0].mean(9) == -1.0
    assert list(json.loads(file.read_text())["results"]) == [first, second, third]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "it holds no mapping"),
        ('{"plan": []}', "plan and results are not both mappings"),
        ('{"plan": null, "results": {}}', "plan and results are not both mappings"),
        ("[" * 100_000, "recursion|nest"),
        ({"measured": {}, "seconds": 1.0}, "diverged of .* is missing"),
        ({"measured": [], "seconds": 1.0, "diverged": None}, r"measured of .* is \[\]"),
        (None, "is no mapping"),
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    if not isinstance(content, str):
        sweep_into(planned(), tmp_path, QUIET)
        whole = json.loads((tmp_path / "results.json").read_text())
        content = json.dumps({**whole, "results": {"one": content}})
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ConfigError, match=f"(?s)json: cannot be read: .*({message}).*delete"):
        sweep_into(planned(), tmp_path, QUIET)


def test_results_of_other_versions_are_refused(tmp_path: Path) -> None:
    sweep_into(planned(), tmp_path, QUIET)
    file = tmp_path / "results.json"
    content = json.loads(file.read_text())
    assert set(content["made_with"]) == {"mlmc-ray", "torch"}
    content["made_with"] = {"mlmc-ray": "0.0.1", "torch": metadata.version("torch")}
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"\(mlmc-ray was 0\.0\.1 and is [^;]*\).*--out"):
        sweep_into(planned(), tmp_path, QUIET)
    content["made_with"] = []
    file.write_text(json.dumps(content))
    with pytest.raises(
        ConfigError, match=r"does not say what its results were made with: .*delete"
    ):
        sweep_into(planned(), tmp_path, QUIET)
    del content["made_with"]
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="does not say what its results were made with"):
        sweep_into(planned(), tmp_path, QUIET)


def test_two_sweeps_in_one_place_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ConfigError, match="results are being written there"):
        sweep_into(planned(), tmp_path, QUIET)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["", f"{os.getpid()} {platform.node()}", "1 elsewhere"], ids=["empty", "own", "foreign"]
)
def test_a_lock_that_was_left_behind_is_taken_over(tmp_path: Path, text: str) -> None:
    lock = tmp_path / ".lock"
    lock.write_text(text)
    with locked(tmp_path):
        assert lock.exists()
    assert not lock.exists()


HOLDER = """
import sys, time
from pathlib import Path
from launch.many.lock import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_process_that_is_killed_is_given_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(ConfigError, match="being written there"), locked(tmp_path):
                pass
        finally:
            holder.kill()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        pass


def test_a_lock_that_is_removed_while_it_is_taken_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / ".lock"

    def removed_first(file: IO[str], refusal: str) -> None:  # by who had it until now
        monkeypatch.undo()
        lock.unlink()
        exclusive(file, refusal)

    monkeypatch.setattr("launch.many.lock.exclusive", removed_first)
    with locked(tmp_path), pytest.raises(ConfigError), locked(tmp_path):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 2},
        {"at_rounds": (8,)},
        {"overrides": ("problem.dim=5",)},
        {"measure": "squared_distance"},
        {"axes": (Axis(key="optimizer.step_size", values=(0.05, 0.1)),)},
    ],
)
def test_another_sweep_in_the_same_place_is_refused(tmp_path: Path, change: Any) -> None:
    sweep_into(planned(axes=(Axis(key="optimizer.step_size", values=(0.05,)),)), tmp_path, QUIET)
    before = (tmp_path / "results.json").read_text()
    with pytest.raises(ConfigError, match="holds results of something else"):
        sweep_into(planned(**{"axes": (STEPS,), **change}), tmp_path, QUIET)
    assert (tmp_path / "results.json").read_text() == before


def test_a_directory_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="already holds a run"):
        sweep_into(planned(), tmp_path, QUIET)


# The best.


def test_the_best_runs_as_it_is(tmp_path: Path) -> None:
    outcomes = sweep_into(planned(), tmp_path, QUIET)["small"]
    text = (tmp_path / "best.yaml").read_text()
    assert text.startswith("# The best by the lowest gap after 9 rounds:")
    assert ", seed 3\n" in text
    config = load_config(tmp_path / "best.yaml")
    assert (config.name, config.evaluate_every) == ("small", 4)
    with Session(config) as session:
        assert session.run()["test_gap"] == outcomes[0].mean(9)


def test_every_entry_has_its_own_best(tmp_path: Path) -> None:
    entries = [{"name": "plain"}, {"name": "top", "method": {"kind": "ef", "compressor": TOP_1}}]
    source = {**CONFIG, "compare": entries}
    options = SweepOptions(axes=(STEPS,), entries=True)
    outcomes = sweep_into(plan_sweep(source, options), tmp_path, QUIET)
    runs = load_variants(tmp_path / "best.yaml")
    assert [config.name for config in runs] == ["plain", "top"]
    for config in runs:
        chosen = best(outcomes)[config.name]["optimizer.step_size"]
        assert config.optimizer is not None
        assert config.optimizer.step_size == chosen
        with Session(config) as session:
            assert session.run()["test_gap"] == outcomes[config.name][0].mean(9)


@pytest.mark.parametrize("halving", [False, True])
def test_the_best_has_rounds_and_seeds_of_the_file(halving: bool, tmp_path: Path) -> None:
    entries = [{"name": "one"}, {"name": "two", "rounds": 7}]
    source = {**CONFIG, "seeds": 4, "compare": entries}
    options = SweepOptions(axes=(STEPS,), entries=True, at_rounds=(2, 5), halving=halving)
    sweep_into(plan_sweep(source, options), tmp_path, QUIET)
    assert [config.rounds for config in load_variants(tmp_path / "best.yaml")] == [9, 7]
    assert read_source(tmp_path / "best.yaml").seeds == 4
    text = (tmp_path / "best.yaml").read_text()
    assert "after 5 rounds:" in text
    assert "# Runs are as long as in the swept file, and not as in the sweep.\n" in text


def test_the_best_of_a_single_run_has_rounds_and_seeds_of_the_file(tmp_path: Path) -> None:
    source = {**CONFIG, "seeds": 4}
    sweep_into(plan_sweep(source, SweepOptions(axes=(STEPS,), at_rounds=(2,))), tmp_path, QUIET)
    assert load_config(tmp_path / "best.yaml").rounds == 9
    assert read_source(tmp_path / "best.yaml").seeds == 4


def test_a_list_without_a_run_of_its_own_is_swept_by_entries(tmp_path: Path) -> None:
    rest = {key: value for key, value in CONFIG.items() if key != "method"}
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump({**rest, "compare": [{"name": "one", "method": "sgd"}]}))
    result = run(path, "--over", "optimizer.step_size=0.1,0.2", "--out", tmp_path / "out")
    assert result.exit_code == 2
    told = "missing keys ['method']: its runs are those of its compare list; to sweep them all: add"
    assert f"error: {path}: {told} --entries\n" in result.stderr
    assert plan_sweep(path, SweepOptions(axes=(parse_axis("method=sgd"),))).left_aside == 1


@pytest.mark.parametrize("by_entries", [False, True])
def test_a_list_that_is_left_aside_is_noted(by_entries: bool, tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "compare": [{"name": "one"}, {"name": "two"}]}))
    options = ["--entries"] if by_entries else []
    result = run(path, "--over", "optimizer.step_size=0.1,0.2", "--out", tmp_path / "o", *options)
    assert result.exit_code == 0
    noted = "swept is the file's own run; the 2 of its compare list are left aside: add --entries"
    assert (noted in result.stdout) is not by_entries


TOP_1 = {"kind": "top-k", "k": 1}


def test_every_entry_has_its_own_seed(tmp_path: Path) -> None:
    source = {**CONFIG, "compare": [{"name": "one"}, {"name": "two", "seed": 10}]}
    sweep = plan_sweep(source, SweepOptions(axes=(TWO_STEPS,), entries=True, seeds=2))
    assert [sweep.seeds_of(c) for c in sweep.candidates] == [(3, 4)] * 2 + [(10, 11)] * 2
    outcomes = sweep_into(sweep, tmp_path, QUIET)
    for config in load_variants(tmp_path / "best.yaml"):
        with Session(config) as session:
            assert session.run()["test_gap"] == outcomes[config.name][0].measured[9][0]


def test_entries_of_different_lengths_are_refused() -> None:
    source = {**CONFIG, "compare": [{"name": "one"}, {"name": "two", "rounds": 5}]}
    with pytest.raises(ConfigError, match=r"rounds differ \(one 9, two 5\).*--at-rounds"):
        plan_sweep(source, SweepOptions(axes=(TWO_STEPS,), entries=True))
    sweep = plan_sweep(source, SweepOptions(axes=(TWO_STEPS,), entries=True, at_rounds=(4,)))
    assert {candidate.config.rounds for candidate in sweep.candidates} == {4}


def test_the_figure_has_a_logarithmic_axis_where_values_are(tmp_path: Path) -> None:
    axes = (
        parse_axis("optimizer.step_size=log:1e-3..0.1:3"),
        parse_axis("problem.noise=0,0.5,1"),
    )
    sweep = planned(axes=axes)
    panels = draw_sweep(sweep, sweep_into(sweep, tmp_path, QUIET)).axes
    assert [panel.get_xscale() for panel in panels] == ["log", "linear"]
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["method.compressor.ladder.segment_size"], ["segment_size"]),
        (["optimizer.step_size", "method.step_size"], ["optimizer.step_size", "method.step_size"]),
        (["method.compressor.k", "method.downlink.k"], ["compressor.k", "downlink.k"]),
        (["k", "method.k"], ["k", "method.k"]),
        (["seed", "optimizer.step_size"], ["seed", "step_size"]),
    ],
)
def test_columns_are_headed_by_what_tells_keys_apart(keys: list[str], names: list[str]) -> None:
    assert list(short_names(keys).values()) == names


def test_the_end_of_a_range_is_remarked(tmp_path: Path) -> None:
    sweep = planned(axes=(Axis(key="optimizer.step_size", values=(1e-3, 1e-2)),))
    lines = remarks(sweep, sweep_into(sweep, tmp_path, QUIET))
    two = "is the higher of only two: try more values, on both sides"
    assert lines == [f"small: the best optimizer.step_size, 0.01, {two}"]
    sweep = planned(axes=(Axis(key="optimizer.step_size", values=(1e-3, 3e-3, 1e-2)),))
    lines = remarks(sweep, sweep_into(sweep, tmp_path / "three", QUIET))
    three = "is the highest that was tried: try higher ones too"
    assert lines == [f"small: the best optimizer.step_size, 0.01, {three}"]


# What is refused before the first run.


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"axes": (Axis(key="optimizer.stepsize", values=(1,)),)}, ConfigError, "did you mean"),
        ({"axes": (Axis(key="optimizer.step_size", values=("x",)),)}, ConfigError, "'x'"),
        ({"axes": (Axis(key="problem.dim", values=(4, 1)),)}, ProblemError, "dim=1|dim is 1"),
        ({"axes": (Axis(key="workers", values=(2, 3)),)}, ProblemError, "3 workers"),
        ({"measure": "accuracy"}, ConfigError, "measures .'gap', 'squared_distance'."),
        ({"overrides": ("bacth_size=3",)}, ConfigError, "batch_size"),
        ({"seeds": 0}, ConfigError, "--seeds 0"),
        ({"best": "most"}, ConfigError, "highest or lowest"),
        ({"at_rounds": (5, 3)}, ConfigError, "increasing"),
        ({"at_rounds": (0,)}, ConfigError, "increasing"),
        ({"at_rounds": (5,), "halving": True}, ConfigError, "5 rounds .* a single rung"),
        ({"axes": (TWO_STEPS,), "halving": True}, ConfigError, "2 settings make a single rung"),
    ],
)
def test_a_wrong_sweep_is_refused(changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        planned(**changes)


def test_parallel_is_for_inline_runs_of_one_thread() -> None:
    for override, message in (("engine=ray", "--engine inline"), ("threads=2", "threads=1")):
        configs = [c.config for c in planned(overrides=(override,)).candidates]
        check_parallel(configs, 1)
        with pytest.raises(ConfigError, match=message):
            check_parallel(configs, 2)
    with pytest.raises(ConfigError, match="--parallel 0"):
        check_parallel([], 0)


# Processes.


def _double(task: int, tell: Tell) -> tuple[int, int]:
    tell(task)
    return 2 * task, os.getpid()


def _fail(task: str, tell: Tell) -> None:
    if task == "exit":
        os._exit(7)
    if task == "memory":
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B")
    raise RoundError("round 1: lost") if task == "expected" else KeyError("bug")


def test_calls_apart_return_in_their_own_processes() -> None:
    results: dict[int, tuple[int, int]] = {}
    news: list[tuple[int, int]] = []
    keep: Callable[[int, Any], None] = results.__setitem__
    run_apart(
        _double,
        [5, 6, 7],
        fresh=True,
        on_news=lambda task, value: news.append((task, value)),
        on_result=keep,
    )
    assert [results[task][0] for task in range(3)] == [10, 12, 14]
    assert news == [(0, 5), (1, 6), (2, 7)]
    processes = {pid for _, pid in results.values()}
    assert len(processes) == 3
    assert os.getpid() not in processes
    run_apart(_double, [5, 6, 7], on_result=keep)
    assert len({pid for _, pid in results.values()}) == 1


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        ("expected", RoundError, "^round 1: lost$"),
        ("bug", RuntimeError, "KeyError: 'bug'"),
        ("exit", RoundError, "exit code 7"),
        ("memory", RoundError, "allocate 9 B: out of memory: run smaller ones"),
    ],
)
def test_what_fails_apart_fails_here(task: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run_apart(_fail, [task])


def test_a_process_that_ends_before_its_task_is_told_apart() -> None:
    process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(5,))
    process.start()
    process.join()
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with pytest.raises(RoundError, match="exit code 5"):
        _give(_Child(process, ours), 0, ["task"])


# The command.


def test_the_command_shows_and_writes_and_goes_on(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    arguments = (config, "--over", "optimizer.step_size=0.05,1e30", "--out", tmp_path / "out")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "diverged" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json",
        "figure.png",
        "best.yaml",
    }
    again = run(*arguments)
    assert "going on: 2 runs of this sweep are in" in again.output.replace("\n", " ")
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"].values()
    assert all(math.isfinite(result["seconds"]) for result in results)


def test_a_command_that_is_refused_is_not_told_to_go_on(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    arguments = (config, "--over", "optimizer.step_size=0.05,0.1", "--out", tmp_path / "out")
    assert run(*arguments).exit_code == 0
    refused = run(*arguments, "--seeds", "2")
    assert refused.exit_code == 2
    assert "holds results of something else" in refused.stderr
    assert "goes on" not in refused.output


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    result = run(config, "--over", "optimizer.step_size=", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()
