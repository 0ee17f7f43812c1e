"""Comparisons over several seeds: places, means, what is kept, processes, figures."""

import json
import math
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from launch.cli import app
from launch.comparing.ended import read_ended
from launch.comparing.notes import missing_runs, notes_on_seeds
from launch.comparing.over_seeds import OverSeeds
from launch.comparing.plan import plan_runs, seeds_in
from launch.comparing.target import Target
from launch.configuration.run_config import load_config, load_variants
from launch.configuration.unchanging import without_effect
from launch.display.cells import columns_of, result_of
from launch.display.grid import Curve, draw_grid
from launch.display.levels import draw_levels
from launch.display.terminal import RunProgress
from launch.elastic import Elastic
from launch.metrics import Metrics
from launch.observations import levels_in, mean_level
from launch.session import Session
from launch.summary import Summary
from mlmc_ray.errors import ConfigError
from mlmc_ray.quorum import Quorum

CONFIG: dict[str, Any] = {
    "problem": {"kind": "quadratic", "num_functions": 2, "dim": 8, "noise": 0.5},
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.03125},
    "seed": 5,
    "workers": 2,
    "rounds": 4,
    "evaluate_every": 1,
    "observe_every": 1,
    "engine": "inline",
}
LADDER = {"kind": "s-top-k", "segment_size": 2}
MLMC = {"kind": "compressed-sgd", "compressor": {"kind": "mlmc", "ladder": LADDER}}
ENTRIES: list[dict[str, Any]] = [{"name": "Plain"}, {"name": "Levels", "method": MLMC}]


def run(tmp_path: Path, *options: str, out: str = "out", **changes: Any) -> Result:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "compare": ENTRIES, **changes}))
    return CliRunner().invoke(app, ["compare", str(path), "--out", str(tmp_path / out), *options])


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((path / "summary.json").read_text())
    return rows


def without_time(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_time(v) for k, v in value.items() if k != "seconds"}
    return [without_time(item) for item in value] if isinstance(value, list) else value


# Several seeds.


def test_every_entry_runs_with_its_seed_and_the_next(tmp_path: Path) -> None:
    result = run(tmp_path, "--seeds", "2", "--target", "gap=1000")
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    gaps = []
    for seed in (5, 6):
        place = out / "levels" / f"seed-{seed}"
        assert yaml.safe_load((place / "config.yaml").read_text())["seed"] == seed
        with Session(load_config({**CONFIG, **ENTRIES[1], "seed": seed})) as session:
            session.run()
        assert rows_of(place)[0]["uplink_bytes"] == session.metrics[-1]["uplink_bytes"]
        gaps.append(session.metrics[-1]["test_gap"])
    plain, levels = rows_of(out)
    assert [plain["name"], levels["name"]] == ["Plain", "Levels"]
    assert (levels["seeds"], levels["whole_runs"], levels["reached_target"]) == ([5, 6], 2, 2)
    assert levels["measures"]["gap"] == sum(gaps) / 2
    assert levels["spreads"]["measures"]["gap"] == pytest.approx(statistics.stdev(gaps))
    assert [row["measures"]["gap"] for row in levels["runs"]] == gaps
    assert rows_of(out / "levels") == levels["runs"]
    assert plain["mean_level"] is None
    assert 1 <= levels["mean_level"] <= 4
    assert (out / "levels.png").is_file()
    assert "± sample standard deviation" in result.stdout


def test_one_seed_is_as_without_any(tmp_path: Path) -> None:
    run(tmp_path, "--seeds", "1", seeds=3)
    (first, second) = rows_of(tmp_path / "out")
    assert list(first) == list(rows_of(tmp_path / "out" / "plain")[0])
    assert "runs" not in second


def test_the_file_may_say_seeds_and_others_leave_them_aside(tmp_path: Path) -> None:
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    base.write_text(yaml.safe_dump({**CONFIG, "seeds": 3}))
    child.write_text("extends: base.yaml")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(CONFIG))
    assert (seeds_in([child]), seeds_in([other]), seeds_in([other, child])) == (3, 1, 3)
    assert load_config(child).seed == 5
    assert len(load_variants(child)) == 1
    other.write_text(yaml.safe_dump({**CONFIG, "seeds": 2}))
    with pytest.raises(ConfigError, match=r"seeds differ: 3 in .*, 2 in .*: give --seeds"):
        seeds_in([child, other])


@pytest.mark.parametrize("seeds", [0, True, "many", 1.5])
def test_seeds_are_a_number_from_one(seeds: Any) -> None:
    with pytest.raises(ConfigError, match="seeds: expected a number of seeds from 1"):
        load_config({**CONFIG, "seeds": seeds})


def test_entries_do_not_share_a_storage() -> None:
    stored = {**CONFIG, "checkpoints": {"every": 1, "storage": "/kept"}}
    configs = [load_config({**stored, "name": name}) for name in ("A", "B")]
    storages = [run.config.checkpoints.storage for run in plan_runs(configs, 2)]  # type: ignore[union-attr]
    assert storages == ["/kept/a", "/kept/a", "/kept/b", "/kept/b"]


def summary_of(gap: float, **changes: Any) -> Summary:
    return replace(Summary("x", 4, {"gap": gap}, 100, 10, 1.0, None, None, 4, 1.0), **changes)


def test_a_failed_seed_is_in_no_mean() -> None:
    target = Target(measure="gap", value=2.5)
    reached = {"uplink_bytes": 7, "bytes_to_target": 1}  # and then it diverged
    failed = summary_of(9.0, ended="round 2: x", diverged=True, **reached)
    good = [summary_of(1.0, bytes_to_target=40), summary_of(2.0, bytes_to_target=60)]
    rows = [replace(row, target=target) for row in (*good, failed)]
    row = OverSeeds(seeds=(1, 2, 3), runs=tuple(rows))
    assert result_of(row, "gap") == "1.5 ± 0.7071\n2 of 3 seeds"
    assert (row.mean().uplink_bytes, row.mean().ended, row.mean().diverged) == (100, None, False)
    (cell,) = columns_of([row])["bytes up\nto gap\n2.5"]
    assert cell.split("\n") == ["50 B,", "2 of 3,", "40 B to 60 B"]
    assert row.to_mapping()["bytes_to_target_range"] == [40, 60]
    assert row.to_mapping()["reached_target"] == 2
    assert result_of(OverSeeds(seeds=(3,), runs=(failed,)), "gap") == "diverged"
    assert OverSeeds(seeds=(1,), runs=(good[0],)).to_mapping()["spreads"]["measures"] == {
        "gap": None
    }


# Going on.


def interrupting(monkeypatch: pytest.MonkeyPatch, seed: int, name: str) -> None:
    def on_round(progress: RunProgress, session: Session, metrics: Metrics, result: Any) -> None:
        if (session.config.seed, session.config.name, metrics["round"]) == (seed, name, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(RunProgress, "on_round", on_round)


def test_a_repeated_command_keeps_what_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupting(patch, 6, "Levels")
        assert run(tmp_path, "--seeds", "2").exit_code == 130
    out = tmp_path / "out"
    assert (out / "compare.png").is_file()
    ended = out / "plain" / "seed-6" / "versions.json"
    cut = out / "levels" / "seed-6" / "versions.json"
    times = [path.stat().st_mtime_ns for path in (ended, cut)]
    result = run(tmp_path, "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert f"going on: 3 of 4 runs have ended in {out} and are kept" in result.stdout
    assert ended.stat().st_mtime_ns == times[0]
    assert cut.stat().st_mtime_ns > times[1]
    run(tmp_path, "--seeds", "2", out="whole")
    assert without_time(rows_of(out)) == without_time(rows_of(tmp_path / "whole"))
    assert "4 of 4 runs have ended" in run(tmp_path, "--seeds", "2", panels=["P"]).stdout


def test_something_else_in_the_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path).exit_code == 0
    other = run(tmp_path, "--set", "optimizer.step_size=0.01")
    assert other.exit_code == 2
    assert "already holds another run (optimizer {'kind': 'sgd'" in other.stderr
    seeds = run(tmp_path, "--seeds", "2")
    assert seeds.exit_code == 2
    assert "already holds a run, with another number of seeds" in seeds.stderr
    monkeypatch.setattr("launch.comparing.record.made_with", lambda configs: {"torch": "9"})
    code = run(tmp_path)
    assert code.exit_code == 2
    assert "made with something else" in code.stderr
    assert "and is 9" in code.stderr


def test_what_changes_no_result_may_differ(tmp_path: Path) -> None:
    assert run(tmp_path, compare=ENTRIES[:1]).exit_code == 0
    same: dict[str, Any] = {"engine": "ray", "actors": 1, "placement": "spread", "restarts": 0}
    more: dict[str, Any] = {"round_timeout_s": 9, "placement_timeout_s": 9, "search_paths": ["."]}
    result = run(tmp_path, compare=ENTRIES[:1], checkpoints={"every": 2}, **same, **more)
    assert result.exit_code == 0, result.output
    assert "going on: 1 of 1 runs have ended" in result.stdout
    assert run(tmp_path, compare=ENTRIES[:1], rounds=5).exit_code == 2
    assert run(tmp_path, compare=ENTRIES[:1], callbacks=["tensorboard"]).exit_code == 2


ASYNC = {"kind": "async-sgd", "compressor": "identity"}


def test_runs_that_go_by_time_do_not_change_their_place() -> None:
    steady = load_config({**CONFIG, "engine": "ray"})
    assert {"engine", "actors", "placement"} <= {*without_effect(steady)}
    late = replace(steady, quorum=Quorum(reports=1))
    growing = replace(steady, elastic=Elastic(least=1, most=4))
    timed = load_config({**CONFIG, "engine": "ray", "method": ASYNC})
    for config in (late, growing, timed):
        assert {"engine", "actors", "placement"}.isdisjoint(without_effect(config))
        assert {"panels", "restarts"} <= {*without_effect(config)}


def test_keys_that_differ_or_are_lacking_are_a_short_list(tmp_path: Path) -> None:
    assert run(tmp_path, compare=ENTRIES[:1]).exit_code == 0
    other = run(tmp_path, compare=ENTRIES[:1], seed=1, workers=3, rounds=9, evaluate_every=3)
    assert "(seed 5 there, rounds 4 there, workers 2 there and 1 more)" in other.stderr
    path = tmp_path / "out" / "comparison.json"
    (entry,) = json.loads(path.read_text()).values()
    path.write_text(json.dumps({"plain": {**entry, "config": {}}}))
    lacking = run(tmp_path, compare=ENTRIES[:1])
    assert f"{path}: its entry of 'plain' lacks problem, method, optimizer and " in lacking.stderr
    assert lacking.stderr.endswith(" more: give another --out\n")


def test_a_run_of_another_command_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **ENTRIES[0]}))
    place = tmp_path / "out" / "plain"
    assert CliRunner().invoke(app, ["train", str(path), "--out", str(place)]).exit_code == 0
    for options in ((), ("--seeds", "2")):
        result = run(tmp_path, *options)
        assert f"{place} already holds a run" in result.stderr
    assert (place / "model.pt").is_file()
    place = tmp_path / "one"
    assert CliRunner().invoke(app, ["train", str(path), "--out", str(place)]).exit_code == 0
    rows = rows_of(place)
    refused = run(tmp_path, out="one")
    assert refused.stderr == f"error: {place} already holds a run: give another --out\n"
    assert rows_of(place) == rows


def test_a_run_that_failed_is_run_again_and_one_that_diverged_is_kept(tmp_path: Path) -> None:
    diverging = {"name": "D", "optimizer": {"kind": "sgd", "step_size": 1e30}, "rounds": 50}
    assert run(tmp_path, compare=[ENTRIES[0], diverging]).exit_code == 1
    own = tmp_path / "out" / "plain" / "summary.json"
    (row,) = json.loads(own.read_text())
    own.write_text(json.dumps([{**row, "ended": "round 3: a disk was full"}]))
    result = run(tmp_path, compare=[ENTRIES[0], diverging])
    assert "going on: 1 of 2 runs" in result.stdout
    assert rows_of(own.parent)[0]["ended"] is None
    assert result.exit_code == 1
    assert "every run" not in result.stderr


FIRST = '{"round": 0, "seconds": 0.0, "uplink_bytes": 0, "downlink_bytes": 0, "test_gap": 1.0}\n'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has other rounds than 0 to 0 of summary.json"),
        (FIRST + FIRST, "has other rounds than 0 to 0 of summary.json"),
        (FIRST.replace('"round": 0', '"round": 1'), "has other rounds than 0 to 0 of summary"),
        (FIRST.replace("1.0", '"x"'), "line 1 of metrics.jsonl is '{"),
        ("[]", "line 1 of metrics.jsonl is '[]'"),
        ('{"round": 0}', "has rounds without ['uplink_bytes', 'downlink_bytes']"),
        (FIRST.replace("test_gap", "test_loss"), "has other measures than summary.json"),
        (
            FIRST.replace('"test_gap": 1.0', '"gradients": 0'),
            "has other measures than summary.json",
        ),
    ],
)
def test_a_damaged_run_is_one_line_that_names_it(tmp_path: Path, content: str, told: str) -> None:
    summary = replace(summary_of(1.0), rounds=0)
    (tmp_path / "summary.json").write_text(json.dumps([summary.to_mapping()]))
    (tmp_path / "observed.jsonl").touch()
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(FIRST)
    ended = read_ended(tmp_path)
    assert ended is not None
    assert (ended.summary, len(ended.metrics)) == (summary, 1)
    metrics.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_ended(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: cannot be read: ")
    assert told in str(caught.value)
    assert str(caught.value).endswith(": delete it to run it again")


def test_a_damaged_summary_or_observation_names_the_run(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(
        json.dumps([replace(summary_of(1.0), rounds=0).to_mapping()])
    )
    (tmp_path / "metrics.jsonl").write_text(FIRST)
    (tmp_path / "observed.jsonl").write_text('{"round": 1, "workers": {"0": [{"levels": ["x"]}]}}')
    with pytest.raises(ConfigError, match=r"line 1 of observed.jsonl is .*: delete it to run"):
        read_ended(tmp_path)
    (tmp_path / "summary.json").write_text('[{"rounds": "x"}]')
    with pytest.raises(
        ConfigError, match=r"summary.json is not the row of a run: delete it to run"
    ):
        read_ended(tmp_path)


# Processes.


def test_several_at_a_time_give_the_same(tmp_path: Path) -> None:
    result = run(tmp_path, "--seeds", "2", "--parallel", "2", out="both")
    assert result.exit_code == 0, result.output
    assert "4 runs, 2 at a time" in result.stdout
    ended = [line for line in result.stdout.splitlines() if " rounds, ended: " in line]
    assert [line.partition(" rounds, ended: ")[2] for line in ended] == [
        f"{number} of 4 runs" for number in (1, 2, 3, 4)
    ]
    run(tmp_path, "--seeds", "2")
    both, one = tmp_path / "both", tmp_path / "out"
    assert without_time(rows_of(both)) == without_time(rows_of(one))
    for name in ("ledger.csv", "observed.jsonl", "model.pt"):
        place = Path("levels") / "seed-6" / name
        assert (both / place).read_bytes() == (one / place).read_bytes()
    kept = run(tmp_path, "--seeds", "2", "--parallel", "2", out="both")
    assert "4 of 4 runs have ended" in kept.stdout
    assert "at a time" not in kept.stdout
    refused = run(tmp_path, "--parallel", "2", "--engine", "ray", out="ray")
    assert "--parallel 2: runs on Ray share one cluster" in refused.stderr


# Notes.


def test_runs_that_have_not_begun_are_counted_where_they_are_many(tmp_path: Path) -> None:
    runs = plan_runs([load_config({**CONFIG, "name": f"run {i}"}) for i in range(6)], 1)
    begun = {"run 0": lambda: 2}
    text = missing_runs(runs, begun, tmp_path)
    assert "run 0: 2 of 4 rounds; 5 runs: not begun\n" in text
    few = missing_runs(runs[:3], begun, tmp_path)
    assert "run 0: 2 of 4 rounds; run 1, run 2: not begun\n" in few


def test_rows_of_fewer_seeds_are_named() -> None:
    rows = [
        OverSeeds(seeds=tuple(range(n)), runs=(summary_of(1, name=f"of {n}"),) * n)
        for n in (3, 2, 3, 1)
    ]
    (note,) = notes_on_seeds(rows)
    assert note.startswith("means over 3 seeds (of 2: 2, of 1: 1), the result ± sample")
    assert notes_on_seeds([rows[0]])[0].startswith("means over 3 seeds, the result ±")


# Figures.


def rounds_of(*values: float) -> list[Metrics]:
    return [
        {"round": i, "uplink_bytes": 1000 * i, "downlink_bytes": 500 * i, "test_gap": value}
        for i, value in enumerate(values)
    ]


def test_the_grid_has_a_row_a_panel_with_means_and_ranges() -> None:
    curves = [
        Curve(name="everywhere", panels=(), runs=[rounds_of(4, 2, 1), rounds_of(8, 4, 3)]),
        Curve(name="a $", panels=("P", "Q"), runs=[rounds_of(4, 3, 2)]),
        Curve(name="_b", panels=("Q",), runs=[rounds_of(4, 3, 2)]),
    ]
    figure = draw_grid(curves, "gap", "title")
    figure.draw_without_rendering()
    assert [axes.get_title(loc="left") for axes in figure.axes[::3]] == ["P", "Q"]
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 2, 2, 3, 3, 3]
    up, both, rounds = (axes.get_lines()[0] for axes in figure.axes[:3])
    np.testing.assert_array_equal(rounds.get_ydata(), [6, 3, 2])
    np.testing.assert_array_equal(up.get_xdata(), [1000, 2000])
    np.testing.assert_array_equal(both.get_xdata(), [1500, 3000])
    (band,) = figure.axes[2].collections
    ends = band.get_datalim(figure.axes[2].transData).intervaly
    np.testing.assert_allclose(ends, [1, 8])
    assert [axes.get_xlabel() for axes in figure.axes] == [
        *("", "", ""),
        *("bytes up, all workers (frames)", "bytes up and down, all workers (frames)", "rounds"),
    ]
    legend = figure.axes[5].get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == ["everywhere", "a $", "_b"]


def test_a_run_that_never_was_finite_can_be_drawn() -> None:
    curves = [Curve(name="x", panels=(), runs=[rounds_of(math.nan), rounds_of(math.inf)])]
    draw_grid(curves, "gap", "title").draw_without_rendering()


@pytest.mark.parametrize("panels", ["", ["a", "a"], ["a", " "]])
def test_panels_have_names(panels: Any) -> None:
    with pytest.raises(ConfigError, match="give every panel a name, each once"):
        load_config({**CONFIG, "panels": panels})
    assert load_config({**CONFIG, "panels": "Best"}).panel_names == ("Best",)


# Levels.


def test_the_server_draws_no_levels_of_workers() -> None:
    seen = [{"workers": {"-1": [{"levels": [9]}], "0": [{"levels": [1, 3]}, {}], "1": []}}]
    assert levels_in(seen) == Counter({1: 1, 3: 1})
    assert mean_level(levels_in(seen)) == 2
    assert mean_level({}) is None


def test_few_levels_are_bars_and_many_a_line_of_cumulative_shares() -> None:
    drawn = {"few": {1: 3, 3: 1}, "many": {1: 1, 5000: 2, 70: 1}, "one": {41: 1}}
    figure = draw_levels(drawn)
    figure.draw_without_rendering()
    few, many, one = figure.axes
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in few.patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(bars, [(1, 0.75), (2, 0), (3, 0.25)])
    np.testing.assert_array_equal(few.get_xticks(), [1, 2, 3])
    assert not many.patches
    np.testing.assert_array_equal(many.lines[0].get_xdata(), [1, 1, 70, 5000])
    np.testing.assert_array_equal(many.lines[0].get_ydata(), [0, 0.25, 0.5, 1])
    assert [axes.texts[0].get_text() for axes in figure.axes] == [
        "mean 1.5",
        "mean 2,518",
        "mean 41",
    ]
    assert [axes.get_xscale() for axes in figure.axes] == ["linear", "log", "log"]
    assert few.get_ylabel() == "share of the draws"
    assert many.get_ylabel() == "share of the draws\nup to the level"
    assert few.get_title() == "few\n4 draws, highest level 3"
    assert many.get_title() == "many\n4 draws, highest level 5,000"
    assert one.get_title() == "one\n1 draw, highest level 41"


@pytest.mark.parametrize(("highest", "ticks"), [(12, 12), (40, 8)])
def test_every_level_has_a_tick_where_they_are_few(highest: int, ticks: int) -> None:
    (axes,) = draw_levels({"one": {highest: 1}}).axes[:1]
    found = [tick for tick in axes.get_xticks() if 0.5 <= tick <= highest + 0.5]
    assert (len(found) == highest) is (highest == ticks)
    assert all(tick == int(tick) for tick in found)
