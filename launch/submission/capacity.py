"""What the nodes of a cluster have, and what a job finds too little of."""

from dataclasses import dataclass

from launch.submission.dashboard import Dashboard
from launch.submission.job import Job
from mlmc_ray.errors import ClusterError, one_line

_OTHER_SHAPES = (KeyError, TypeError, AttributeError, RecursionError, ValueError, OverflowError)
"""What reading an answer ends in that is not what it should be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What all nodes have together, busy or not."""

    processors: int
    gpus: int

    def shortage(self, job: Job) -> str | None:
        """Return what a job needs and the cluster lacks; None if it has enough."""
        kinds = [
            (job.processors + job.num_cpus, self.processors, "processor"),
            (job.gpus, self.gpus, "GPU"),
        ]
        lacking = [(needed, have, name) for needed, have, name in kinds if have < needed]
        if not lacking:
            return None
        needs = " and ".join(f"{n:g} {name}{'s' * (n != 1)}" for n, _, name in lacking)
        has = " and ".join(str(have) for _, have, _ in lacking)
        return f"{job.name} needs {needs}, the cluster has {has}"

    def remedy(self, job: Job) -> str:
        """Return what would do about a shortage."""
        if self.gpus >= job.gpus:
            return "lower actors, add nodes, or give --wait-for-resources to wait for them"
        return (
            "lower actors, add nodes with GPUs, give --wait-for-resources to wait for them, or "
            "give device: cpu"
        )


def capacity_of(dashboard: Dashboard) -> Capacity:
    """Return what the nodes of a cluster have, busy or not.

    Raises:
        ClusterError: the dashboard does not list them.
    """
    answer = dashboard.get("/api/v0/nodes", {"detail": 1, "limit": 10_000})
    try:
        nodes = answer.json()["data"]["result"]["result"]
        present = [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]
        return Capacity(
            processors=int(sum(has.get("CPU", 0) for has in present)),
            gpus=int(sum(has.get("GPU", 0) for has in present)),
        )
    except _OTHER_SHAPES as error:
        text = one_line(RuntimeError(answer.text), 200)
        raise ClusterError(f"{dashboard.url} does not list its nodes: {text}") from error
