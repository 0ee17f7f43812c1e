"""Bringing a lab up for a measurement."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from launch.lab.outside import run_in_lab
from launch.lab.plan import LabPlan
from launch.wire.measured import Measured
from launch.wire.plan import WirePlan


def run_on_lab(plan: WirePlan, tell: Callable[[str], None] = lambda _: None) -> Measured:
    """Measure the rounds of a configuration in a lab of its own, with progress on stderr.

    Args:
        plan: what is measured.
        tell: called with a line about settings that are set aside, and before the lab.

    Raises:
        ClusterError: the machine cannot have a lab; says why, and the remedy.
        ConfigError, ProblemError: the configuration cannot be measured.
        SystemExit: the measurement failed, and has said why.
    """
    config = plan.run()  # its errors come before the lab, which takes some seconds
    for line in plan.notes():
        tell(line)
    lab = LabPlan(nodes=1 + config.servers + plan.hosts, rate=plan.rate, verbose=True)
    tell(f"lab: 1 node for the driver, {config.servers} for servers, {plan.hosts} for hosts")
    with TemporaryDirectory(prefix="mlmc-ray-wire-") as directory:
        given, found = Path(directory, "plan.json"), Path(directory, "found.json")
        given.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        command = [sys.executable, "-m", "launch.wire.measuring", str(given), str(found)]
        if status := run_in_lab(lab, command):
            raise SystemExit(status)
        return Measured.from_mapping(json.loads(found.read_text(encoding="utf-8")))
