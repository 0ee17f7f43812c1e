"""What is kept of a comparison's runs, and the numbers made of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.paper.__main__ import app
from benchmarks.paper.figures import accuracies
from benchmarks.paper.report import panels, spread, tables
from benchmarks.paper.runs import Run, gather, keep, kept
from benchmarks.paper.standing import ahead, standings
from launch.cli import app as mlmc_ray
from mlmc_ray.errors import ConfigError

MLMC = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 0.1}}
COMPARISON = {
    "name": "small",
    "problem": "digits",
    "seeds": 2,
    "rounds": 6,
    "workers": 2,
    "evaluate_every": 2,
    "observe_every": 2,
    "engine": "inline",
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.2},
    "compare": [
        {"name": "Uncompressed, M=2", "panels": ["M = 2"]},
        {
            "name": "MLMC 10%, M=2",
            "panels": ["M = 2"],
            "method": {"kind": "compressed-sgd", "compressor": MLMC},
        },
        {
            "name": "Top-k 10%, M=2",
            "panels": ["M = 2"],
            "method": {"kind": "compressed-sgd", "compressor": {"kind": "top-k", "k": 0.1}},
        },
    ],
}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a comparison that was run."""
    place = tmp_path_factory.mktemp("compared")
    (place / "small.yaml").write_text(json.dumps(COMPARISON), encoding="utf-8")
    command = ["compare", str(place / "small.yaml"), "--out", str(place / "runs")]
    result = CliRunner().invoke(mlmc_ray, command)
    assert result.exit_code == 0, result.output
    return place / "runs"


def run_with(accuracies: list[float], up: list[int], **changes: object) -> Run:
    """Return a run that was evaluated so."""
    evaluations = tuple(
        {"round": i, "test_accuracy": a, "uplink_bytes": sent, "downlink_bytes": 2 * sent}
        for i, (a, sent) in enumerate(zip(accuracies, up, strict=True))
    )
    run = Run(
        name="MLMC",
        seed=0,
        panels=("M = 4",),
        workers=4,
        problem={"kind": "digits"},
        step_size=0.1,
        evaluations=evaluations,
        levels={},
        diverged=False,
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def test_runs_are_kept_in_the_order_of_the_table(compared: Path) -> None:
    found = gather([compared])
    names = [str(entry["name"]) for entry in COMPARISON["compare"]]  # type: ignore[attr-defined]
    assert [(run.name, run.seed) for run in found] == [(n, s) for n in names for s in (0, 1)]
    assert all(len(run.evaluations) == 4 and run.step_size == 0.2 for run in found)
    assert [bool(run.levels) for run in found] == [False, False, True, True, False, False]


def test_what_is_kept_is_read_again(compared: Path, tmp_path: Path) -> None:
    found = gather([compared])
    keep(found, tmp_path / "kept.json", {"machine": {"cores": 2}})
    again, more = kept(tmp_path / "kept.json")
    assert again == found
    assert more == {"machine": {"cores": 2}}


def test_commands(compared: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "kept.json")
    for command in (
        ["keep", str(compared), "--json", path],
        ["report", path],
        ["figure", path, "--figure", f"{tmp_path}/a.png", "--levels", f"{tmp_path}/l.png"],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        if command[0] == "report":
            assert "| MLMC 10%, M=2 |" in result.output
            assert "| M = 2 | equal bytes |" in result.output
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert (tmp_path / "l.png").stat().st_size > 1_000


def test_a_run_without_accuracy_is_refused(tmp_path: Path) -> None:
    config = {**COMPARISON, "problem": {"kind": "quadratic", "num_functions": 2, "dim": 4}}
    config |= {"seeds": 1, "batch_size": "full"}
    (tmp_path / "q.yaml").write_text(json.dumps(config), encoding="utf-8")
    command = ["compare", str(tmp_path / "q.yaml"), "--out", str(tmp_path / "runs")]
    assert CliRunner().invoke(mlmc_ray, command).exit_code == 0
    with pytest.raises(ConfigError, match="has no test_accuracy"):
        gather([tmp_path / "runs"])


def test_final_accuracy_is_the_mean_of_the_last() -> None:
    run = run_with([0.1, 0.5, 0.6, 0.7, 0.8], [0, 1, 2, 3, 4])
    assert run.final == pytest.approx(0.7)
    assert run_with([0.1, 0.5, 0.7], [0, 1, 2]).final == pytest.approx(0.6)
    assert replace(run, diverged=True).final == 0


def test_accuracy_at_a_budget_is_smooth_and_in_line() -> None:
    run = run_with([0.0, 0.3, 0.6], [0, 100, 200])
    assert run.smooth() == pytest.approx([0.15, 0.3, 0.45])
    assert run.at_bytes(150) == pytest.approx(0.375)
    assert run.at_bytes(1e9) == pytest.approx(0.45)
    assert run.bytes_to(0.3) == 100
    assert run.bytes_to(0.5) is None


def test_methods_are_compared_at_the_bytes_of_mlmc() -> None:
    runs = [
        run_with([0.1, 0.9], [0, 9000], name="Uncompressed"),
        run_with([0.1, 0.8], [0, 200], name="MLMC"),
        run_with([0.1, 0.7], [0, 100], name="Top-k"),
        run_with([0.1, 0.7], [0, 400], name="Rand-k"),
    ]
    assert panels(runs)["M = 4"][0].target == pytest.approx(0.9 - 0.02)
    text = tables(runs)
    assert "| MLMC | 80.0 % | 45.0 % |" in text
    assert "| Top-k | 70.0 % | 40.0 % |" in text
    assert "| Rand-k | 70.0 % | 40.0 % |" in text
    *_, equal_bytes, equal_rounds = standings(runs).splitlines()
    assert equal_bytes == "| M = 4 | equal bytes | -5.0 | +5.0 | +5.0 |"
    assert equal_rounds == "| M = 4 | equal rounds | -10.0 | +10.0 | +10.0 |"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_that_diverged_does_not_set_where_others_are_compared(seeds: int) -> None:
    lost = [run_with([0.1], [0], name="Rand-k", seed=i, diverged=True) for i in range(seeds)]
    runs = [
        run_with([0.1, 0.9], [0, 9000], name="Uncompressed"),
        run_with([0.1, 0.8], [0, 200], name="MLMC"),
        *lost,
        *([run_with([0.1, 0.5], [0, 100], name="Rand-k", seed=2)] if seeds == 1 else []),
    ]
    rows = {row.name: row for row in panels(runs)["M = 4"]}
    assert rows["Rand-k"].bytes_up == (100 if seeds == 1 else 0)
    assert rows["Rand-k"].at_bytes(100)[0] == 0
    if seeds == 2:  # at the bytes of the other, and not at none
        assert "| equal bytes | -5.0 | +45.0 |" in standings(runs)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [{}]}', '{"runs": [{"levels": 1}]}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "kept.json").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["report", str(tmp_path / "kept.json")])
    assert result.exit_code == 2
    assert "holds no runs" in " ".join(result.output.split())
    missing = CliRunner().invoke(app, ["report", str(tmp_path / "none.json")])
    assert "cannot be read" in " ".join(missing.output.split())


def test_a_run_that_was_cut_off_is_refused(compared: Path, tmp_path: Path) -> None:
    copied = tmp_path / "runs"
    shutil.copytree(compared, copied)
    metrics = next(copied.rglob("metrics.jsonl"))
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(ConfigError, match="was cut off after 4 rounds: go on with the command"):
        gather([copied])


def test_a_panel_needs_an_uncompressed_run_and_one_of_mlmc() -> None:
    with pytest.raises(ConfigError, match="expected one Uncompressed"):
        panels([run_with([0.1], [0], name="MLMC"), run_with([0.1], [0], name="Top-k")])
    with pytest.raises(ConfigError, match="expected one MLMC"):
        panels([run_with([0.1, 0.2], [0, 9], name=name) for name in ("Uncompressed", "Top-k")])


def test_differences_are_bold_beyond_the_spread() -> None:
    def seeds(name: str, finals: list[float]) -> list[Run]:
        return [
            run_with([f, f, f], [0, 1, 2], name=name, seed=seed) for seed, f in enumerate(finals)
        ]

    runs = [
        *seeds("Uncompressed", [0.9, 0.9]),
        *seeds("MLMC 1%", [0.80, 0.82]),
        *seeds("Top-k 1%", [0.70, 0.72]),
        *seeds("Rand-k 1%", [0.80, 0.84]),
    ]
    rows = {row.name: row for row in panels(runs)["M = 4"]}
    assert ahead(rows["MLMC 1%"].finals, rows["Top-k 1%"].finals) == "**+10.0**"
    assert ahead(rows["MLMC 1%"].finals, rows["Rand-k 1%"].finals) == "-1.0"
    head, _, *lines = standings(runs).splitlines()
    assert head == "| panel | at | Uncompressed | Top-k | Rand-k |"
    assert lines[1] == "| M = 4 | equal rounds | **-9.0** | **+10.0** | -1.0 |"


def test_accuracies_may_be_shown_from_one_on() -> None:
    runs = [run_with([0.1, 0.9], [0, 90], name=name) for name in ("Uncompressed", "MLMC")]
    assert accuracies(runs, "x").axes[0].get_ylim()[0] <= 0.1
    for axes in accuracies(runs, "x", 0.5).axes:
        assert axes.get_ylim() == pytest.approx((0.5, 0.91))


def test_spread() -> None:
    assert spread([0.8]) == "80.0 %"
    assert spread([0.8, 0.82]) == "81.0 ± 1.4 %"
