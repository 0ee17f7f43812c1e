"""A job from submission to its end: why it waits, what it writes, how it ended."""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launch.submission.capacity import capacity_of
from launch.submission.dashboard import Dashboard
from launch.submission.job import Job
from mlmc_ray.errors import ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

Tell = Callable[[str], None]
"""Is given lines for the user, or pieces of a job's log."""

_SHORTEST_WAIT_S = 5.0  # a cluster that has just started does not list its nodes at once
_POLL_S = 0.5
_REASON_EVERY_S = 10.0
_SILENCE_S = 60.0
_QUIET_S = 60.0  # without a line of the log; then the job is asked about, over a connection anew
_STOP_WAIT_S = 60.0
_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a job ended.

    Args:
        job_id: of the job.
        status: Ray's word for it: SUCCEEDED, FAILED or STOPPED.
        exit_code: of its command, 128 and the signal's number where one ended it; 1 where there is
            none, since it was stopped or did not start.
        message: Ray's, in one sentence.
        results: directory that holds them, None without any.
    """

    job_id: str
    status: str
    exit_code: int
    message: str
    results: str | None = None


def submit(dashboard: Dashboard, job: Job, wait_s: float, tell: Tell) -> None:
    """Submit a job once the cluster has the processors and GPUs for it.

    Args:
        dashboard: of the cluster.
        job: what to run.
        wait_s: seconds to wait for what the cluster does not have; five at least.
        tell: is told what is waited for.

    Raises:
        ClusterError: the cluster is too small, or refuses the job.
    """
    wait_s = max(wait_s, _SHORTEST_WAIT_S)
    started, told = time.monotonic(), None
    while shortage := (capacity := capacity_of(dashboard)).shortage(job):
        if time.monotonic() - started >= wait_s:
            raise ClusterError(f"{shortage}: {capacity.remedy(job)}")
        if shortage != told:
            tell(f"{shortage}; waiting up to {wait_s:g} s")
            told = shortage
        time.sleep(_POLL_S)
    dashboard.submit(job)


def follow(dashboard: Dashboard, job_id: str, tell: Tell, write: Tell) -> Outcome:
    """Stay with a job until it ends.

    Args:
        dashboard: of the cluster.
        job_id: of a job that has been submitted, or has ended already.
        tell: is told why the job waits, every ten seconds, and when the connection is lost.
        write: gets the job's log, piece by piece.

    Raises:
        ClusterError: there is no such job, or the dashboard was silent for a minute.
    """
    dashboard.details(job_id)  # a job that is not there is no silence
    wait, log, silence = _Wait(tell), _Log(write), _Silence(tell)
    while True:
        try:
            details = dashboard.details(job_id)
            silence.ends()
            if details.status == "PENDING":
                wait.explain(dashboard, job_id, details)
            elif details.status.is_terminal():
                log.complete(dashboard.log(job_id))
                return _outcome(details, job_id)
            else:
                asyncio.run(log.tail(dashboard, job_id))
        except ClusterError as error:
            silence.goes_on(error, dashboard, job_id)
        time.sleep(_POLL_S)


def attach_command(dashboard: Dashboard, job_id: str) -> str:
    """Return the command that follows a job later."""
    return f"mlmc-ray submit --attach {job_id} --address {dashboard.url}"


def stop(dashboard: Dashboard, job_id: str) -> Outcome:
    """Stop a job, and wait until it has ended; its command packs what it has written first.

    Raises:
        ClusterError: it has not ended after a minute, as a job that waits for processors may not.
    """
    dashboard.stop(job_id)
    started = time.monotonic()
    while time.monotonic() - started < _STOP_WAIT_S:
        details = dashboard.details(job_id)
        if details.status.is_terminal():
            return _outcome(details, job_id)
        time.sleep(_POLL_S)
    raise ClusterError(
        f"{job_id} was asked to stop, and is {details.status} after {_STOP_WAIT_S:g} s: look at "
        f"{dashboard.url}"
    )


class _Log:
    """Writes a log once, from beginning to end, however often it is read.

    Args:
        write: gets its pieces.
    """

    def __init__(self, write: Tell) -> None:
        self._write = write
        self._written = ""

    async def tail(self, dashboard: Dashboard, job_id: str) -> None:
        """Write what comes until the job ends, the connection breaks, or nothing has come long."""
        position = 0
        pieces = dashboard.tail(job_id)
        with suppress(StopAsyncIteration):
            while True:
                coming = asyncio.ensure_future(anext(pieces))
                try:  # asyncio.wait_for may lose a Ctrl-C that comes with a line, up to Python 3.11
                    if not (await asyncio.wait([coming], timeout=_QUIET_S))[0]:
                        return
                finally:
                    coming.cancel()
                text = coming.result()
                self._append(text[max(0, len(self._written) - position) :])
                position += len(text)

    def complete(self, text: str) -> None:
        """Write what is missing of the whole log: its last lines, which a tail may not bring."""
        if text.startswith(self._written):
            self._append(text[len(self._written) :])

    def _append(self, text: str) -> None:
        self._write(text)
        self._written += text


class _Wait:
    """Says every ten seconds why a job has not started.

    Args:
        tell: gets the lines.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._started = self._told = time.monotonic()

    def explain(self, dashboard: Dashboard, job_id: str, details: "JobDetails") -> None:
        """Say it if it is time."""
        if time.monotonic() - self._told < _REASON_EVERY_S:
            return
        self._told = time.monotonic()
        self._tell(
            f"{job_id} is pending after {self._told - self._started:.0f} s: {details.message} The "
            f"cluster has {capacity_of(dashboard).processors} processors"
        )


class _Silence:
    """Bears it for a minute that a dashboard does not answer.

    Args:
        tell: is told when it begins, and of a log that cannot be followed.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._since: float | None = None
        self._told: str | None = None

    def ends(self) -> None:
        """Begin anew: there was an answer."""
        self._since = None

    def goes_on(self, error: ClusterError, dashboard: Dashboard, job_id: str) -> None:
        """Say what is wrong, once, or give up.

        Raises:
            ClusterError: there was no answer for a minute.
        """
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since > _SILENCE_S:
            raise ClusterError(
                f"{error}, for {_SILENCE_S:g} s; {job_id} does not end by this: follow it later "
                f"with {attach_command(dashboard, job_id)}"
            ) from error
        if self._told != str(error):
            self._told = str(error)
            self._tell(f"{error}; trying again, and {job_id} goes on")


def _outcome(details: "JobDetails", job_id: str) -> Outcome:
    code = details.driver_exit_code
    if details.status == "SUCCEEDED":
        exit_code = 0
    else:  # a command that was killed has a negative one
        exit_code = 1 if not code else code if code > 0 else 128 - code
    message = (details.message or "").partition(", last available logs")[0].strip()
    if exit_code == _KILLED:
        message += " (killed; most often the node had no memory left)"
    return Outcome(job_id=job_id, status=str(details.status), exit_code=exit_code, message=message)
