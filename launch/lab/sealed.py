"""Runs inside the sealed namespaces: brings the lab up, runs the command, writes the report."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.lab.inside import NODES_VARIABLE, Counters, counters, on_node
from launch.lab.network import build_network, run_tool
from launch.lab.outside import NAMESPACE_DIR
from launch.lab.plan import LabPlan, node_address
from launch.lab.ray_nodes import start_ray
from launch.plain_errors import plain_errors


def run(plan: LabPlan, command: Sequence[str]) -> int:
    """Bring the lab up, run the command on node 0, and return its exit status.

    Raises:
        ClusterError: the lab could not be brought up.
    """
    began = time.monotonic()
    for place in (str(NAMESPACE_DIR), "/dev/shm"):
        run_tool("mount", "-t", "tmpfs", "-o", "mode=1777", "lab", place)
    build_network(plan)
    os.environ[NODES_VARIABLE] = str(plan.nodes)
    os.environ.pop("RAY_ADDRESS", None)  # of a cluster that cannot be reached from here
    if plan.with_ray:
        if plan.verbose:
            print(f"Ray: starting on {plan.nodes} nodes", file=sys.stderr, flush=True)
        start_ray(plan)
    before, started = counters(), time.monotonic()
    signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C is for the command
    status = subprocess.call(on_node(0, command))
    status = status if status >= 0 else 128 - status
    if plan.report:
        report = _report(before, counters())
        report |= {"status": status, "seconds": time.monotonic() - started}
        report |= {"start_seconds": started - began}
        Path(plan.report).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return status


def _report(before: Sequence[Counters], after: Sequence[Counters]) -> dict[str, Any]:
    pairs = enumerate(zip(before, after, strict=True))
    nodes = [
        {"node": node, "address": node_address(node), **asdict(late - early)}
        for node, (early, late) in pairs
    ]
    return {"nodes": nodes}


if __name__ == "__main__":
    with plain_errors(Console(stderr=True)):
        sys.exit(run(LabPlan(**json.loads(sys.argv[1])), sys.argv[2:]))
