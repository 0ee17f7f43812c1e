"""The metrics that Ray exports, and the dashboard that shows them."""

import itertools
import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import ray

from launch import Session
from launch.callbacks import RayMetrics
from launch.callbacks.ray_metrics import INSTRUMENTS
from mlmc_ray.errors import ConfigError

DASHBOARD = Path(__file__).parents[2] / "configs" / "grafana" / "mlmc_ray.json"
CONFIG: dict[str, Any] = {
    "problem": "three-workers",
    "workers": 3,
    "batch_size": "full",
    "method": {"kind": "compressed-sgd", "compressor": {"kind": "rand-k", "k": 1}},
    "optimizer": {"kind": "sgd", "step_size": 0.001},
    "rounds": 3,
    "callbacks": "ray-metrics",
}
ASYNCHRONOUS: dict[str, Any] = {
    **CONFIG,
    "name": "asynchronous",
    "method": "async-sgd",
    "engine": "inline",
    "clock": {"compute_s": [1, 2, 5]},
    "rounds": 8,
}
EXPORT_S = 60.0
SUFFIXES = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}


def exported_names() -> set[str]:
    """What Prometheus finds, by the rules that the export of a cluster is checked against."""
    return {
        f"ray_{name}{suffix}"
        for name, instrument in INSTRUMENTS.items()
        for suffix in SUFFIXES[instrument.type]
    }


def samples(text: str, run: str) -> dict[tuple[str, str], float]:
    """Return the values of a run, by name and the tag that is not shared."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"(ray_mlmc_\w+)\{(.*)\} (\S+)$", line)
        if match and f'run="{run}"' in match[2]:
            own = re.search(r'(?:direction|measure|worker|le)="([^"]*)"', match[2])
            found[match[1], own[1] if own else ""] = float(match[3])
    return found


def exported(run: str, name: str) -> str:
    """Wait until Ray exports a metric of a run, and return all that it exports."""
    node = ray.nodes()[0]  # type: ignore[no-untyped-call]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + EXPORT_S
    answered = False
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = str(answer.read().decode())
        except OSError:
            text = ""
        answered |= bool(text)
        if any(key[0] == name for key in samples(text, run)):
            return text
        time.sleep(1)
    if not answered:
        pytest.skip("this Ray exports no metrics: it needs ray[default]")
    raise AssertionError(f"{name} of {run} was not exported within {EXPORT_S:g} s")


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_ray_exports_what_a_run_reports() -> None:
    with Session({**CONFIG, "name": "exported", "actors": 1}) as session:
        session.run()
        with Session(ASYNCHRONOUS) as other:
            other.run()
        text = exported("asynchronous", "ray_mlmc_staleness_rounds_count")
        run = samples(exported("exported", "ray_mlmc_measure"), "exported")
    last = session.metrics[-1]
    assert run["ray_mlmc_rounds_total", ""] == 3
    assert run["ray_mlmc_frame_bytes_total", "uplink"] == last["uplink_bytes"]
    assert run["ray_mlmc_frame_bytes_total", "downlink"] == last["downlink_bytes"]
    assert run["ray_mlmc_train_loss", ""] == pytest.approx(last["train_loss"])
    assert run["ray_mlmc_measure", "gap"] == pytest.approx(last["test_gap"])
    assert run["ray_mlmc_relative_error", ""] == session.metrics[1]["relative_error"]
    assert run["ray_mlmc_round_seconds_count", ""] == 3
    seconds = [b["seconds"] - a["seconds"] for a, b in itertools.pairwise(session.metrics)]
    for edge in (0.01, 0.1, 1.0):
        below = sum(value <= edge for value in seconds)
        assert run["ray_mlmc_round_seconds_bucket", str(edge)] == below
    slowest = max(work.seconds for work in session.work if work.round_index == 2)
    assert run["ray_mlmc_slowest_worker_seconds", ""] == pytest.approx(slowest)
    assert 'method="compressed-sgd"' in text
    of_other = samples(text, "asynchronous")
    # The reports of workers 0, 0, 1, 0, 0, 1, 0, 2 answer news of rounds 0, 1, 0, 2, 4, 3, 5, 0.
    ages = [0, 0, 2, 1, 0, 2, 1, 7]
    assert of_other["ray_mlmc_staleness_rounds_count", ""] == len(ages)
    reports = [of_other["ray_mlmc_reports_total", str(worker_id)] for worker_id in range(3)]
    assert reports == [5, 2, 1]
    for edge in (0.5, 1.5, 2.5, 4.5, 8.5):
        below = sum(age <= edge for age in ages)
        assert of_other["ray_mlmc_staleness_rounds_bucket", str(edge)] == below
    assert {name for name, _ in {**run, **of_other}} == exported_names()


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    used = set(re.findall(r"ray_mlmc_\w+", " ".join(expressions)))
    assert used <= exported_names()
    shown = {name for name in INSTRUMENTS if any(f"ray_{name}" in u for u in used)}
    assert shown == set(INSTRUMENTS)
    known = {"run", "le", *(tag for i in INSTRUMENTS.values() for tag in i.tags)}
    grouped = re.findall(r"(?:by|on) \(([^)]*)\)", " ".join(expressions))
    assert {tag.strip() for tags in grouped for tag in tags.split(",")} <= known
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for expression in expressions:
        promql_parser.parse(expression.replace("$__rate_interval", "1m"))  # Grafana fills it in


def test_without_ray_it_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match=r"ray-metrics needs Ray, engine is 'inline'"):
        Session({**CONFIG, "engine": "inline"})
    with pytest.raises(ConfigError, match=r"give engine: ray, call ray.init\(\) first"):
        Session({**CONFIG, "callbacks": []}, overrides=["engine=inline"], callbacks=[RayMetrics()])
