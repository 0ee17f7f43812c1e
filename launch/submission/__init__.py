"""Running a configuration as a job of a Ray cluster, with only its dashboard within reach.

    job         what is submitted: the command, the files, the processors and GPUs it needs
    access      where the dashboard is, and with which token it is asked
    answering   whether a dashboard answers there, and takes the token
    dashboard   the cluster's dashboard: jobs, nodes, files of the log directory
    capacity    what the nodes have, and whether a job finds enough
    following   from submission to the end: why a job waits, its log, its exit code
    watching    the same with Ctrl-C and the results
    on_cluster  runs there: starts the command, and leaves an archive of the results
    results     the archive, and the way back

>>> from launch.submission import Dashboard, job_of, submit, watch
"""

from launch.submission.dashboard import Dashboard
from launch.submission.following import Outcome, follow, stop, submit
from launch.submission.job import Job, job_of
from launch.submission.results import fetch_results
from launch.submission.watching import watch

__all__ = [
    "Dashboard",
    "Job",
    "Outcome",
    "fetch_results",
    "follow",
    "job_of",
    "stop",
    "submit",
    "watch",
]
