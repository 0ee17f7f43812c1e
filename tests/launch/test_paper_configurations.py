"""The configurations of the paper's figures: what the paper says is in them."""

import re
from collections import Counter
from pathlib import Path

import pytest

from launch.configuration.build import describe
from launch.configuration.run_config import RunConfig, load_variants

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted([*(CONFIGS / "paper").glob("*.yaml"), *(CONFIGS / "reviewers").glob("*.yaml")])
SHARES = {"fig1": (0.01, 0.05, 0.1, 0.5), "fig4": (0.001, 0.005, 0.01, 0.05)}


def runs_of(name: str) -> list[RunConfig]:
    return load_variants(CONFIGS / "paper" / f"{name}.yaml")


def share_of(config: RunConfig) -> float | None:
    """Return the share of entries that a message of a run carries, if it carries some."""
    found = re.search(r"'(?:k|segment_size)': ([\d.]+)", str(describe(config.method)))
    return float(found[1]) if found else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_can_be_read(path: Path) -> None:
    runs = load_variants(path)
    assert len(runs) > 3
    assert len({config.name for config in runs}) == len(runs)


@pytest.mark.parametrize("name", SHARES)
def test_the_top_k_family_has_all_sparsities_with_4_and_32_workers(name: str) -> None:
    runs = runs_of(name)
    found = Counter((config.workers, share_of(config)) for config in runs)
    wanted = {(workers, share): 4 for workers in (4, 32) for share in SHARES[name]}
    assert found == wanted | {(4, None): 1, (32, None): 1}
    for config in runs:
        share = share_of(config)
        shares = SHARES[name] if share is None else (share,)
        wanted_panels = [f"M = {config.workers}, k = {100 * one:g}%" for one in shares]
        assert list(config.panel_names) == wanted_panels


@pytest.mark.parametrize(
    ("name", "batches"),
    [("fig1", {4: 16, 32: 16}), ("fig3", {4: 128, 32: 64}), ("fig4", {4: 128, 32: 64})],
)
@pytest.mark.parametrize("small", ["", "-small"])
def test_batches_are_the_papers(name: str, batches: dict[int, int], small: str) -> None:
    for config in runs_of(name + small):
        assert config.batch_size == batches[config.workers], config.name


def test_seeds() -> None:
    for path in (CONFIGS / "paper").glob("fig[1346]*.yaml"):
        seeds = 3 if "small" in path.stem else 5
        assert f"\nseeds: {seeds}\n" in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_tuned_steps_are_of_the_grid_that_the_file_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if "NOT TUNED" in text or "--over optimizer.step_size=" not in text:
        pytest.skip("its step sizes are not said to be tuned")
    found = re.search(r"--over optimizer\.step_size=(\S+)", text)
    assert found is not None
    grid = set(map(float, found[1].split(",")))
    for config in load_variants(path):
        assert config.optimizer is not None
        assert config.optimizer.step_size in grid, config.name
