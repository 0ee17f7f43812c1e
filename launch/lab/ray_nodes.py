"""Ray on the nodes of a lab."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from launch.lab.inside import popen_on
from launch.lab.plan import LabPlan, node_address, node_name
from mlmc_ray.errors import ClusterError

_PORT = 6379
_FILES = Path("/dev/shm")  # the lab's own, which is gone with it
_LAST_LINES = 3

_SETTINGS = {
    # Nothing outside can reach the cluster. With a token that an earlier cluster has left in the
    # home directory the head would ask for it, and the nodes that join would not give it.
    "RAY_AUTH_MODE": "disabled",
    # Reports of a node about itself, which would cross the links that are to be measured:
    # 6 kB/s for each node, 0.7 kB/s without them.
    "RAY_USAGE_STATS_ENABLED": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "600000",
    "RAY_enable_metrics_collection": "0",
    "RAY_enable_open_telemetry": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_prestart_worker_first_driver": "0",
    # After 10 s Ray asks for an object anew, though it is on its way over a slow link, and it
    # crosses twice.
    "RAY_object_manager_pull_timeout_ms": "600000",
    # A node whose cable is pulled counts as dead after 6 to 9 s; by default after a minute.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""Of Ray, in the environment of every node; what is set there already stays."""


def start_ray(plan: LabPlan) -> None:
    """Start a head on node 0 and join the others to it; later programs find it by RAY_ADDRESS.

    Raises:
        ClusterError: a node did not start; quotes the last lines of what it said.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    address = f"{node_address(0)}:{_PORT}"
    store = f"--object-store-memory={plan.store_mib << 20}"
    head = (store, "--head", f"--port={_PORT}", "--num-cpus=0", "--include-dashboard=false")
    _start(0, head)
    options = (store, f"--address={address}", f"--num-cpus={plan.cpus_per_node}")
    joining = partial(_start, options=options)
    with ThreadPoolExecutor(os.cpu_count()) as at_once:  # Ray gives a node 30 s, and no more
        list(at_once.map(joining, range(1, plan.nodes)))
    os.environ["RAY_ADDRESS"] = address


def _start(node: int, options: Sequence[str]) -> None:
    """Start a node, which has its own processes, files and object store."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", *options),
        f"--node-ip-address={node_address(node)}",
        f"--temp-dir={_FILES / node_name(node)}",
        "--num-gpus=0",
    ]
    log = _FILES / f"{node_name(node)}.log"
    with log.open("w") as out:
        # In a session of its own: Ctrl-C is for the command, not for Ray.
        starting = popen_on(
            node,
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        failed = starting.wait()
    if failed:
        said = " ".join(log.read_text().splitlines()[-_LAST_LINES:])
        raise ClusterError(
            f"Ray did not start on node {node} of the lab; with more nodes than the machine has "
            f"processors it needs time, and the machine must not be busy: {said}"
        )
