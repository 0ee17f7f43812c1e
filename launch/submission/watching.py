"""Staying with a job from this side: its log, its results, and what Ctrl-C does to it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from launch.display.results import results_line
from launch.run_directory import results_directory
from launch.submission.dashboard import Dashboard
from launch.submission.following import Outcome, Tell, attach_command, follow, stop
from launch.submission.results import fetch_results
from mlmc_ray.errors import ClusterError

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended."""


def watch(
    dashboard: Dashboard,
    job_id: str,
    *,
    out: Path | None,
    stops: Callable[[], bool],
    tell: Tell,
    write: Tell,
) -> Outcome:
    """Follow a job to its end, and bring its results back.

    Ctrl-C or SIGTERM stops the job, or leaves it running; a job that is stopped brings back what
    it has written.

    Args:
        dashboard: of the cluster.
        job_id: of a job that has been submitted, or has ended already.
        out: directory for the results; by default ``runs/<name>-<time>``.
        stops: says, when interrupted, whether the job is to be stopped.
        tell: gets lines for the user.
        write: gets the job's log, piece by piece.

    Raises:
        ClusterError: there is no such job, the cluster is gone, or the results of a job that
            succeeded could not be fetched.
        ConfigError: the results cannot be written.
    """
    try:
        outcome = follow(dashboard, job_id, tell, write)
    except KeyboardInterrupt:
        if not stops():
            tell(f"{job_id} is left running on {dashboard.url}")
            tell(how_to_go_on(dashboard, job_id))
            message = "Left running when its client was interrupted."
            return Outcome(job_id=job_id, status="RUNNING", exit_code=INTERRUPTED, message=message)
        tell(f"stopping {job_id}")
        outcome = replace(stop(dashboard, job_id), exit_code=INTERRUPTED)
    tell(f"{job_id} {outcome.status}: {outcome.message}")
    return replace(outcome, results=_bring_back(dashboard, outcome, out, tell))


def how_to_go_on(dashboard: Dashboard, job_id: str) -> str:
    """Return the commands that follow a job later, and that stop it."""
    return (
        f"  follow it and fetch its results: {attach_command(dashboard, job_id)}\n"
        f"  stop it: ray job stop {job_id} --address {dashboard.url}"
    )


def _bring_back(dashboard: Dashboard, outcome: Outcome, out: Path | None, tell: Tell) -> str | None:
    """Fetch the results of a job that has ended, and return where they are."""
    about = dashboard.details(outcome.job_id).metadata or {}
    if kept := about.get("kept"):
        if outcome.status == "SUCCEEDED":
            tell(f"results: {kept} on the cluster")
            return kept
        tell(f"what it has written, if anything, is in {kept} on the cluster")
        return None
    try:
        with results_directory(out, about.get("job_name", outcome.job_id)) as directory:
            num_files = fetch_results(dashboard, outcome.job_id, directory)
    except ClusterError as error:
        again = f"try again: {attach_command(dashboard, outcome.job_id)}"
        if outcome.status == "SUCCEEDED":
            raise ClusterError(
                f"{outcome.job_id} succeeded, and its results did not arrive: {error}; {again}"
            ) from error
        tell(f"no results: {error}; {again}")
        return None
    if not num_files:
        tell("no results")
        return None
    tell(results_line(directory))
    return str(directory)
