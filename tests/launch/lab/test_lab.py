"""The lab: nodes, links and counters as on cables, and nothing left of it however it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.lab import outside
from launch.lab.inside import counters, popen_on, shape_links
from launch.lab.plan import LabPlan
from mlmc_ray.errors import ClusterError, ConfigError

REASON = outside.missing()
needs_lab = pytest.mark.skipif(REASON is not None, reason=f"NO LAB HERE: {REASON}")
LAB = (sys.executable, "-m", "launch.lab", "run")
MEGABYTE = 1_000_000
TRANSFER = f"""
import socket, subprocess, sys, time
from launch.lab.inside import counters, node_address, popen_on, shape_links

if len(sys.argv) > 1:
    shape_links(float(sys.argv[1]) or None)
SINK = "import socket; c = socket.create_server(('', 5000)).accept()[0]\\nwhile c.recv(65536): pass"
sink = popen_on(2, [sys.executable, "-c", SINK])
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    try:
        stream = socket.create_connection((node_address(2), 5000))
        break
    except OSError:
        time.sleep(0.05)
before, started = counters(), time.monotonic()
stream.sendall(bytes({MEGABYTE}))
stream.close()
sink.wait()
moved = [late - early for early, late in zip(before, counters(), strict=True)]
again = 1514 * moved[0].retransmitted  # on a busy machine
seconds = time.monotonic() - started
print(moved[0].tx_bytes - again, again, moved[1].rx_bytes, moved[2].rx_bytes, seconds)
"""
ON_RAY = """
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from launch.lab.inside import counters

ray.init(logging_level="error")
print(*sorted((n["NodeManagerAddress"], n["Resources"].get("CPU", 0)) for n in ray.nodes()))
where = next(n for n in ray.nodes() if n["Resources"].get("CPU"))
pinned = NodeAffinitySchedulingStrategy(where["NodeID"], soft=False)
size = ray.remote(lambda data: len(data)).options(scheduling_strategy=pinned)
before = counters()
assert ray.get(size.remote(bytes(2_000_000))) == 2_000_000
print(*((late - early).rx_bytes for early, late in zip(before, counters(), strict=True)))
"""


def run_lab(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    line = [*LAB, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout)


def running(marker: str) -> bool:
    """Say whether a process has this among its arguments."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in place.read_text():
                return True
        except OSError:
            continue
    return False


def wait_until(true: bool, marker: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while running(marker) != true:
        assert time.monotonic() < deadline, f"{marker}: expected running to be {true}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nodes": 0}, "nodes is 0: give 1 to 200"),
        ({"nodes": 2, "rate": 1.0}, "rate is 8 bit/s"),
        ({"nodes": 2, "cpus_per_node": -1}, "cpus_per_node is -1"),
        ({"nodes": 2, "store_mib": 10}, "store_mib is 10: give at least 75"),
    ],
)
def test_a_plan_out_of_range_is_refused(given: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LabPlan(**given)  # type: ignore[arg-type]


def test_what_is_missing_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "needs Linux, and this is darwin" in str(outside.missing())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "ip" else f"/bin/{tool}")
    assert "needs the program ip: apt install iproute2" in str(outside.missing())
    monkeypatch.setattr(shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root, and this is user 1000: run it with sudo" in str(outside.missing())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    refused = subprocess.CompletedProcess([], 1, "", "unshare failed: Operation not permitted")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
    assert "namespaces, which are refused here (unshare failed" in str(outside.missing())
    with pytest.raises(ClusterError, match="SYS_ADMIN and NET_ADMIN"):
        outside.run_in_lab(LabPlan(nodes=1), ["true"])


def test_outside_of_a_lab_there_are_no_nodes() -> None:
    with pytest.raises(ConfigError, match=r"only in a command that .*launch.lab run"):
        counters()


def test_a_number_of_nodes_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLMC_RAY_LAB_NODES", "three")
    with pytest.raises(ConfigError, match="MLMC_RAY_LAB_NODES is 'three', and no number of nodes"):
        counters()


def test_a_report_without_a_place_is_refused_before_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "missing", lambda: None)
    plan = LabPlan(nodes=1, report=str(tmp_path / "none" / "report.json"))
    with pytest.raises(ConfigError, match=r"none/report.json: give a file in a directory"):
        outside.run_in_lab(plan, ["true"])


def test_a_report_that_would_end_with_the_lab_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "missing", lambda: None)
    with pytest.raises(ConfigError, match=r"--json /dev/shm/r.json: /dev/shm is the lab's own"):
        outside.run_in_lab(LabPlan(nodes=1, report="/dev/shm/r.json"), ["true"])


def test_a_node_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLMC_RAY_LAB_NODES", "3")
    with pytest.raises(ConfigError, match="node 3: the lab has nodes 0 to 2"):
        popen_on(3, ["true"])


@pytest.mark.lab
@needs_lab
def test_counters_see_what_a_cable_would_carry(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ("--nodes", 3, "--no-ray", "--rate", "400mbit", "--json", report)
    done = run_lab(*options, "--", sys.executable, "-c", TRANSFER)
    assert done.returncode == 0, done.stderr
    sent, again, elsewhere, received, seconds = map(float, done.stdout.split())
    framing = 1514 / 1448  # Ethernet, IP and TCP headers of a full packet
    assert sent == pytest.approx(MEGABYTE * framing, rel=0.002)
    assert sent <= received <= sent + again
    assert elsewhere < 200
    assert seconds > 0.9 * 8 * sent / 400e6 - 0.002  # the burst goes at once
    nodes = json.loads(report.read_text())["nodes"]
    assert [node["address"] for node in nodes] == ["10.200.0.1", "10.200.0.2", "10.200.0.3"]
    assert nodes[2]["rx_bytes"] >= received
    assert nodes[0]["retransmitted"] == again / 1514


@pytest.mark.lab
@needs_lab
@pytest.mark.slow
def test_links_change_their_rate_while_a_lab_is_up() -> None:
    seconds = []
    for first, then in (("400mbit", 1.25e6), ("10mbit", 0)):
        options = ("--nodes", 3, "--no-ray", "--rate", first)
        done = run_lab(*options, "--", sys.executable, "-c", TRANSFER, then)
        assert done.returncode == 0, done.stderr
        seconds.append(float(done.stdout.split()[-1]))
    slow, free = seconds
    assert slow > 0.7
    assert free < 0.7


def test_links_of_no_rate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLMC_RAY_LAB_NODES", "3")
    with pytest.raises(ConfigError, match="rate is 8 bit/s: give at least 8 kbit"):
        shape_links(1.0)


@pytest.mark.lab
@needs_lab
def test_a_command_runs_on_a_given_node() -> None:
    inner = (sys.executable, "-m", "launch.lab", "exec", "1", "--", "ip", "-4", "addr")
    done = run_lab("--nodes", 2, "--no-ray", "--", *inner)
    assert "10.200.0.2/24" in done.stdout, done.stderr
    assert "10.200.0.1/24" not in done.stdout


@pytest.mark.lab
@needs_lab
def test_the_status_of_the_command_is_passed_on() -> None:
    assert run_lab("--nodes", 1, "--no-ray", "--", "sh", "-c", "exit 7").returncode == 7
    done = run_lab("--nodes", 1, "--no-ray", "--", "no-such-program")
    assert done.returncode == 2
    assert done.stderr == "error: command 'no-such-program': there is no such program\n"


@pytest.mark.lab
@needs_lab
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_nothing_is_left_when_the_process_ends(number: signal.Signals) -> None:
    marker = f"{time.monotonic_ns()}.5"
    daemon = f"setsid sleep {marker} & sleep 1{marker}"
    before = set(Path("/sys/class/net").iterdir())
    lab = subprocess.Popen([*LAB, "--nodes", "2", "--no-ray", "--", "sh", "-c", daemon])
    wait_until(True, f"sleep\0{marker}")
    lab.send_signal(number)
    assert lab.wait(20) != 0
    wait_until(False, marker)
    assert set(Path("/sys/class/net").iterdir()) == before


@pytest.mark.lab
@needs_lab
@pytest.mark.slow
def test_ray_runs_on_the_nodes_and_its_transfers_are_counted() -> None:
    done = run_lab("--nodes", 2, "--cpus-per-node", 2, "--", sys.executable, "-c", ON_RAY)
    assert done.returncode == 0, done.stderr
    nodes, transfer = done.stdout.splitlines()
    assert nodes == "('10.200.0.1', 0) ('10.200.0.2', 2.0)"
    head, received = map(int, transfer.split())
    assert 1.045 < received / 2_000_000 < 1.06
    assert head < 200_000
