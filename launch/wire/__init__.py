"""What a run's frames become on the network interfaces of a cluster: measured, and estimated.

    plan        what is to be measured
    exchanges   which frames go together in one call of a host
    transport   the model: interface bytes of such a call, and the constants with their origin
    estimate    interface bytes of the frames of a ledger
    measured    what a measurement finds, and how it is written
    accounting  from counters and a ledger to the traffic of every node
    measuring   runs in a lab: the rounds of a configuration, and the counters around them
    running     brings the lab up for that
    report      tables, and in words what the model predicts

>>> from launch.wire import estimated_interface_bytes
"""

from launch.wire.estimate import estimated_interface_bytes
from launch.wire.exchanges import Call, calls_of, hosts_of
from launch.wire.measured import Measured
from launch.wire.plan import WirePlan
from launch.wire.running import run_on_lab
from launch.wire.transport import RAY, BothWays, Transport

__all__ = [
    "RAY",
    "BothWays",
    "Call",
    "Measured",
    "Transport",
    "WirePlan",
    "calls_of",
    "estimated_interface_bytes",
    "hosts_of",
    "run_on_lab",
]
