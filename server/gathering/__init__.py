"""How the reports of a round are gathered: all of them, the first ones, or each as it comes.

A gathering runs a round on the hosts up to its step, which is the server's. Where hosts are lost on
the way it returns ``Lost``, and waits for others in their place.
"""

from mlmc_ray.plan import RunPlan
from server.calls import Calls
from server.gathering.all_reports import AllReports
from server.gathering.base import Gathering
from server.gathering.each_report import EachReport
from server.gathering.first_reports import FirstReports
from server.server import ParameterServer

__all__ = ["Gathering", "gathering_for"]


def gathering_for(plan: RunPlan, server: ParameterServer, calls: Calls) -> Gathering:
    """Return how the reports of a run are gathered."""
    if plan.method.asynchronous:
        return EachReport(server, calls)
    if plan.quorum is not None:
        return FirstReports(server, calls, plan.quorum)
    return AllReports(server, calls)
