"""The report as one HTML page that needs nothing else, no network either."""

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from launch.reports import curves, layer_panels, tables, timeline_panels, traffic_panels
from launch.reports.panel import DASHES, MARKS, Panel, run_style
from launch.reports.record import RunRecord
from launch.run_directory import writing
from mlmc_ray.errors import ConfigError

_SHAPES = dict(zip(MARKS, "\u25cf\u25a0\u25c6\u271a\u2716\u25b2\u25bc\u2605", strict=True))
_DASHES = dict(zip(DASHES, ("none", "6 3", "6 3 2 3", "2 3"), strict=True))

_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"}
_LAYOUT: Mapping[str, Any] = {
    "template": "none",
    "autosize": True,
    "showlegend": False,
    "font": _FONT,
    "margin": {"l": 10, "r": 14, "t": 36, "b": 10},
    "hoverlabel": {"namelength": -1, "bgcolor": "#ffffff", "font": {"color": "#1a1a1a"}},
}


def panels(records: Sequence[RunRecord]) -> list[Panel]:
    """Return all figures for which there is something to show."""
    names = tables.labels(records)
    makers = (
        curves.measures,
        layer_panels.by_layer,
        layer_panels.by_kind,
        traffic_panels.by_worker,
        curves.errors,
        traffic_panels.levels,
        traffic_panels.staleness,
        timeline_panels.one_round,
        timeline_panels.spread,
    )
    made = (maker(records, names) for maker in makers)
    return [panel for panel in made if panel is not None]


def write_report(records: Sequence[RunRecord], path: Path) -> None:
    """Write the page of some runs.

    Args:
        records: at least one.
        path: of the HTML file.

    Raises:
        ConfigError: the file cannot be written, or a package is missing.
    """
    if not records:
        raise ConfigError("report: there are no runs: give at least one")
    text = page(records)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def page(records: Sequence[RunRecord]) -> str:
    """Return the page of some runs as HTML."""
    jinja, offline = _package("jinja2"), _package("plotly.offline")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("launch.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja.StrictUndefined,
    )
    names = tables.labels(records)
    shown = panels(records)
    text: str = environment.get_template("page.html").render(
        title=_title(names),
        runs=[
            _run(record, name, place)
            for place, (record, name) in enumerate(zip(records, names, strict=True))
        ],
        notes=_notes(records, names),
        results=tables.results(records),
        differences=tables.differences(records),
        versions=tables.versions(records),
        panels=shown,
        figures={"panels": [figure(panel) for panel in shown]},
        plotly=offline.get_plotlyjs(),
    )
    return text


def figure(panel: Panel) -> dict[str, Any]:
    """Return a panel for the page's script, checked by plotly."""
    traces, layout = panel.view({})
    checked = _package("plotly.graph_objects").Figure(
        data=traces, layout={**layout, **_LAYOUT, "height": panel.height}
    )
    return {
        "key": panel.key,
        **json.loads(checked.to_json()),
        "controls": [
            [
                {"label": option.label, "traces": option.traces, "layout": option.layout}
                for option in control.options
            ]
            for control in panel.controls
        ],
        "jumps": [jump.choice for jump in panel.jumps],
    }


def _package(name: str) -> Any:
    """Import what only reports need.

    Raises:
        ConfigError: says how to install it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"report needs {error.name}: install it with pip install 'mlmc-ray[report]'"
        ) from error


def _title(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"Report: {names[0]}"
    return f"Report: {names[0]} and {len(names) - 1} other run{'s' if len(names) > 2 else ''}"


def _run(record: RunRecord, name: str, place: int) -> dict[str, Any]:
    style = run_style(place)
    return {
        "name": name,
        "finished": record.finished,
        "came_to": f"{record.rounds} of {record.rounds_wanted} rounds",
        "path": str(record.path),
        "config": yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True),
        "commands": tables.commands(record),
        "changes": [str(change) for change in record.changes],
        "data": tables.data(record),
        "colour": style["marker"]["color"],
        "mark": _SHAPES[style["marker"]["symbol"]],
        "dash": _DASHES[style["line"]["dash"]],
    }


def _notes(records: Sequence[RunRecord], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return what is missing, and from which runs."""
    found: dict[str, list[str]] = {}
    for record, name in zip(records, names, strict=True):
        for note in record.notes:
            found.setdefault(note, []).append(name)
    every = len(records)
    return [
        (note, "all runs" if len(own) == every > 1 else ", ".join(own))
        for note, own in found.items()
    ]
