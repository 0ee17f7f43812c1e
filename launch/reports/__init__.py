"""Reports: what run directories hold, as one page that works without a network.

>>> from launch.reports import find_runs, read_run, write_report
>>> write_report([read_run(run) for run in find_runs([Path("runs/mine")])], Path("report.html"))
"""

from launch.reports.page import panels, write_report
from launch.reports.pictures import write_pictures
from launch.reports.read import find_runs, read_run
from launch.reports.record import Change, RunRecord, Timeline, Traffic
from launch.reports.tables import write_csv

__all__ = [
    "Change",
    "RunRecord",
    "Timeline",
    "Traffic",
    "find_runs",
    "panels",
    "read_run",
    "write_csv",
    "write_pictures",
    "write_report",
]
