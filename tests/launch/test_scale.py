"""Scaling runs: batches, targets, the variance by theory and as drawn, what is refused."""

import io
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from launch import Session
from launch.commands.scale import scale as command
from launch.configuration.run_config import load_config
from launch.scaling.plan import ScalePlan, Target, parse_target, plan_scale
from launch.scaling.point import Task, measure_point
from launch.scaling.report import draw_scale, scale_table
from launch.scaling.scale import scale_into
from launch.scaling.variance import Variance, first_variance
from mlmc_ray.errors import ConfigError, ProblemError, RoundError
from mlmc_ray.problems import Quadratic

RAND_K = {"kind": "rand-k", "k": 2, "scaled": False}
MLMC = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 2}}
CONFIG: dict[str, Any] = {
    "name": "small",
    "problem": {"kind": "quadratic", "family": "equal", "num_functions": 4, "dim": 8, "noise": 0.1},
    "method": {"kind": "compressed-sgd", "compressor": MLMC},
    "optimizer": {"kind": "sgd", "step_size": 0.01},
    "workers": 4,
    "batch_size": 6,
    "rounds": 12,
    "evaluate_every": 5,
}
QUIET = Console(quiet=True)


def planned(*workers: int, **changes: Any) -> ScalePlan:
    return plan_scale(CONFIG, workers or (1, 2), **{"draws": 4, **changes})


def variance_of(compressor: Any, workers: int, draws: int = 400) -> Variance:
    method = {"kind": "compressed-sgd", "compressor": compressor}
    plan = plan_scale({**CONFIG, "method": method}, (workers,))
    variance = first_variance(plan.configs[workers], draws)
    assert variance is not None
    return variance


def shown(plan: ScalePlan, *found: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), record=True, width=150)
    console.print(scale_table(plan, found))
    return console.export_text()


# The plan.


def test_workers_share_the_batch_or_have_one_each() -> None:
    for batch, sizes in (("per-worker", [6, 6, 6]), ("total", [24, 3, 1])):
        configs = planned(1, 8, 24, batch=batch).configs
        assert [config.batch_size for config in configs.values()] == sizes
        assert [config.workers for config in configs.values()] == [1, 8, 24]
        assert [c.problem.options["num_functions"] for c in configs.values()] == [1, 8, 24]
        assert {config.engine for config in configs.values()} == {"inline"}


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("accuracy=0.9", Target(measure="accuracy", value=0.9, best="highest")),
        ("gap=1e-3", Target(measure="gap", value=1e-3, best="lowest")),
        ("mine>=2", Target(measure="mine", value=2, best="highest")),
        ("auc <= 2", Target(measure="auc", value=2, best="lowest")),
    ],
)
def test_a_target_is_read(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert target.reached(target.value)
    assert target.reached(target.value + 1) is (target.best == "highest")


@pytest.mark.parametrize(
    ("workers", "changes", "error", "message"),
    [
        ((0, 1), {}, ConfigError, "--workers 0,1"),
        ((2, 2), {}, ConfigError, "--workers 2,2"),
        ((2,), {"batch": "all"}, ConfigError, "total or per-worker"),
        ((2, 5), {"batch": "total"}, ConfigError, "5 workers cannot share a batch of 24"),
        ((2,), {"draws": 1}, ConfigError, "--draws 1"),
        ((2,), {"target": parse_target("accuracy=1")}, ConfigError, "--target .* measures .'gap'"),
        ((2,), {"overrides": ("roundz=1",)}, ConfigError, "unknown keys"),
        ((1, 49), {"overrides": ("problem=tests.tasks.Regression",)}, ProblemError, "49 workers"),
    ],
)
def test_a_wrong_scaling_run_is_refused(
    workers: tuple[int, ...], changes: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        planned(*workers, **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy", r"expected measure=value, such as accuracy=0\.9"),
        ("gap=-1", "--target gap=-1: it is never negative"),
        ("mine>=nan", "give a finite number"),
    ],
)
def test_a_wrong_target_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_target(text)


@pytest.mark.parametrize(("value", "first"), [(0.9, 0.1), (1, 0.0), (90, 12.5)])
def test_an_accuracy_is_a_fraction_or_in_per_cent_as_it_is_measured(
    value: float, first: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quadratic, "evaluate", lambda *_: {"accuracy": first})
    target = Target(measure="accuracy", value=value, best="highest")
    assert planned(2, target=target).target == target
    monkeypatch.setattr(Quadratic, "evaluate", lambda *_: {"accuracy": 0.1})
    for wrong in (90, 0):
        message = f"--target accuracy={wrong}: an accuracy is a fraction here: give 0.9 for 90 per"
        with pytest.raises(ConfigError, match=message):
            planned(2, target=replace(target, value=wrong))


# The variance.


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize(
    "compressor", [MLMC, {"kind": "mlmc", "law": "own", "ladder": "fixed-point"}]
)
def test_what_is_drawn_has_the_variance_of_theory(compressor: Any, workers: int) -> None:
    variance = variance_of(compressor, workers)
    assert variance.exact is not None
    assert variance.bound is not None
    assert variance.standard_error < variance.exact / 8  # so that a factor of 2 is seen
    assert abs(variance.drawn - variance.exact) < 5 * variance.standard_error
    assert variance.exact <= variance.bound * (1 + 1e-6)


@pytest.mark.parametrize(
    "compressor",
    [
        {"kind": "mlmc", "ladder": {"kind": "refinement", "compressor": RAND_K}},
        {**MLMC, "base": RAND_K},
        {**MLMC, "base": {"kind": "power-sgd", "rank": 1}},
    ],
)
def test_where_base_or_ladder_draw_only_the_bound_is_known(compressor: Any) -> None:
    variance = variance_of(compressor, 2)
    assert variance.exact is None
    assert variance.bound is None or variance.drawn < variance.bound


def test_equal_workers_share_out_the_variance() -> None:
    overrides = ("problem.noise=0",)
    alike = [
        first_variance(config, 2) for config in planned(1, 4, overrides=overrides).configs.values()
    ]
    one, four = (variance.exact for variance in alike if variance is not None)
    assert one is not None
    assert four == pytest.approx(one / 4, rel=1e-6)


def test_the_vectors_are_the_gradients_of_the_first_round() -> None:
    config = planned(3).configs[3]
    variance = first_variance(config, 2)
    assert variance is not None
    with Session(load_config(config, ["method=sgd", "optimizer.step_size=1.0"])) as session:
        before = session.parameters()
        session.run(1)
        moved = float((session.parameters() - before).double().square().sum())
    assert variance.squared_norm == pytest.approx(moved, rel=1e-5)


def test_theory_is_left_out_where_there_is_none() -> None:
    shared = variance_of("perm-k", 4, draws=3)
    assert (shared.exact, shared.bound) == (None, None)
    assert shared.drawn < 1e-3 * shared.squared_norm + 1  # what one sends, the others do not
    biased = variance_of({"kind": "top-k", "k": 2}, 2, draws=3)
    assert (biased.exact, biased.bound) == (None, None)
    assert first_variance(planned(2, overrides=("method=sgd",)).configs[2], 2) is None


# Running.


def test_a_run_ends_at_the_target(tmp_path: Path) -> None:
    with Session(planned(2).configs[2]) as session:
        session.run()
        gaps = {m["round"]: m["test_gap"] for m in session.metrics if "test_gap" in m}
        sizes = {m["round"]: (m["uplink_bytes"], m["downlink_bytes"]) for m in session.metrics}
    assert gaps[5] > gaps[10]
    target = Target(measure="gap", value=gaps[10], best="lowest")
    (found,) = scale_into(planned(2, target=target), tmp_path / "reached", QUIET)
    assert (found["rounds"], found["reached"]) == (10, True)
    assert found["measures"]["gap"] == gaps[10]
    assert (found["uplink_bytes"], found["downlink_bytes"]) == sizes[10]
    assert found["peak_bytes"] > 50e6
    unreachable = Target(measure="gap", value=0.0, best="lowest")
    plan = planned(2, target=unreachable)
    (found,) = scale_into(plan, tmp_path / "missed", QUIET)
    assert (found["rounds"], found["reached"]) == (12, False)
    assert "> 12" in shown(plan, found)
    assert not np.size(draw_scale(plan, [found]).axes[0].get_lines()[0].get_xdata())


def test_more_numbers_are_added_and_others_kept(tmp_path: Path) -> None:
    scale_into(planned(2), tmp_path, QUIET)
    file = tmp_path / "results.json"
    content = json.loads(file.read_text())
    content["results"]["2"]["rounds"] = -1  # to see that it is not run again
    file.write_text(json.dumps(content))
    assert [f["rounds"] for f in scale_into(planned(1, 2), tmp_path, QUIET)] == [12, -1]
    for change in ({"batch": "total"}, {"draws": 5}, {"overrides": ("seed=1",)}):
        with pytest.raises(ConfigError, match="holds results of something else"):
            scale_into(planned(1, 2, **change), tmp_path, QUIET)


def test_nearly_equal_targets_are_told_apart(tmp_path: Path) -> None:
    near = Target(measure="gap", value=1e3 + 1e-7, best="lowest")
    scale_into(planned(2, target=near), tmp_path, QUIET)
    with pytest.raises(ConfigError, match="holds results of something else"):
        scale_into(planned(2, target=replace(near, value=1e3)), tmp_path, QUIET)


def test_a_figure_that_is_missing_is_drawn_again(tmp_path: Path) -> None:
    scale_into(planned(2), tmp_path, QUIET)
    (tmp_path / "figure.png").unlink()
    scale_into(planned(2), tmp_path, QUIET)
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
def test_the_engine_changes_neither_rounds_nor_measures(tmp_path: Path) -> None:
    inline = scale_into(planned(1, 2), tmp_path / "inline", QUIET)
    plan = planned(1, 2, overrides=("engine=ray", "actors=1"))
    assert {config.engine for config in plan.configs.values()} == {"ray"}
    ray = scale_into(plan, tmp_path / "ray", QUIET)
    for one, other in zip(inline, ray, strict=True):
        for key in ("rounds", "measures", "uplink_bytes", "downlink_bytes", "variance"):
            assert one[key] == other[key]
        assert other["peak_bytes"] is None
    assert " - " in shown(plan, *ray)


def test_a_damaged_row_is_refused(tmp_path: Path) -> None:
    scale_into(planned(2), tmp_path, QUIET)
    file = tmp_path / "results.json"
    content = json.loads(file.read_text())
    del content["results"]["2"]["diverged"]
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"diverged of '2' is missing: .*delete"):
        scale_into(planned(2), tmp_path, QUIET)


def test_what_fails_otherwise_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RoundError("round 2: no update from workers [0]")

    monkeypatch.setattr(Session, "run", fail)
    task = Task(config=planned(2).configs[2].to_mapping(), target=None, draws=2)
    with pytest.raises(RoundError, match="no update"):
        measure_point(task, lambda _: None)


def test_what_diverges_is_shown(tmp_path: Path) -> None:
    plan = planned(1, overrides=("optimizer.step_size=1e30",))
    (found,) = scale_into(plan, tmp_path, QUIET)
    assert "round" in found["diverged"]
    assert "diverged" in shown(plan, found)


def test_simulated_seconds_are_shown(tmp_path: Path) -> None:
    plan = planned(1, overrides=("clock={compute_s: 2}",))
    (found,) = scale_into(plan, tmp_path, QUIET)
    assert found["clock_s"] == 24


def test_the_command_shows_and_writes(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    out = tmp_path / "out"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        runner = CliRunner()
        arguments = [str(config), "--workers", "1,2", "--draws", "3", "--out", str(out)]
        result = runner.invoke(app, arguments)
        refused = runner.invoke(app, [str(config), "--workers", "1,x"])
        spark = runner.invoke(app, [str(config), "--engine", "spark"])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert result.exit_code == 0, result.output
    assert f"results: {out}" in result.output.replace("\n", "")
    assert {path.name for path in out.iterdir()} == {"results.json", "figure.png"}
    assert refused.exit_code == 2
    assert "engine" in spark.stderr
    assert "'spark'" in spark.stderr
