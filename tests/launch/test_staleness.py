"""How old the news are that reports answer."""

from pathlib import Path

from launch import Session
from launch.reports import panels, read_run
from launch.staleness import Staleness
from mlmc_ray.methods import AsyncSGD
from tests.launch.test_clock import config_of


def test_a_report_answers_the_latest_news_of_its_worker() -> None:
    frames = [
        (0, 0, "downlink"),
        (0, 1, "downlink"),
        (0, 0, "uplink"),
        (1, 0, "downlink"),
        (4, 1, "uplink"),
        (4, 0, "uplink"),
        (4, 2, "uplink"),  # of whose news nothing is known
    ]
    assert list(Staleness().of(frames)) == [(0, 0), (1, 4), (0, 3)]  # type: ignore[arg-type]


def test_a_report_shows_how_stale_reports_were(tmp_path: Path) -> None:
    with Session(
        config_of(AsyncSGD(), {"compute_s": [1, 2, 4]}, rounds=8), out=tmp_path / "a"
    ) as s:
        s.run()
    with Session(config_of(AsyncSGD(), {"compute_s": 1}, rounds=1), out=tmp_path / "b") as s:
        s.run()
    fast_and_slow, first = read_run(tmp_path / "a"), read_run(tmp_path / "b")
    # Workers 0 0 1 0 0 1 2 0 report, on news of rounds 0 1 0 2 4 3 0 5.
    assert fast_and_slow.traffic.staleness == {0: 3, 1: 1, 2: 3, 6: 1}
    assert "staleness" in [panel.key for panel in panels([fast_and_slow])]
    assert "staleness" not in [panel.key for panel in panels([first])]
