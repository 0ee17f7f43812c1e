"""A figure with choices: traces and layout of plotly, and what each choice changes in them."""

import copy
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from launch.display.colours import OKABE_ITO

# Dashes and marks repeat what colours say.
DASHES = ("solid", "dash", "dashdot", "dot")
MARKS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star")

Patch = Mapping[str, Any]
"""New values by dotted key, such as "xaxis.type"; of traces a list, one for each of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """What choosing it changes.

    Attributes:
        label: what readers see.
        traces: by dotted key, a list with a value for every trace.
        layout: by dotted key.
    """

    label: str
    traces: Patch = field(default_factory=dict)
    layout: Patch = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A choice: a list or a slider.

    Attributes:
        name: what is chosen.
        options: at least one.
        first: the place of the one that is chosen at the start.
        kind: how it looks.
        pictures: each option is a picture of its own on paper.
    """

    name: str
    options: Sequence[Option]
    first: int = 0
    kind: Literal["select", "range"] = "select"
    pictures: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Jump:
    """A shortcut to options that are worth a look, by the place of their controls."""

    label: str
    choice: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A figure with its controls.

    Attributes:
        key: a word, for files and the page.
        title: what it shows.
        text: how to read it, in plain words.
        traces: of plotly, text in them escaped; ``meta`` is the place of the run by which the
            page shows and hides them.
        layout: of plotly.
        controls: later ones win where several change the same.
        jumps: shortcuts.
        height: in pixels.
    """

    key: str
    title: str
    text: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    controls: Sequence[Control] = ()
    jumps: Sequence[Jump] = ()
    height: int = 420

    def view(self, choice: Mapping[int, int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return traces and layout as the page shows them.

        Args:
            choice: the place of an option by the place of its control, where it is not the
                first one shown.
        """
        traces = [copy.deepcopy(dict(trace)) for trace in self.traces]
        layout = copy.deepcopy(dict(self.layout))
        for place, control in enumerate(self.controls):
            option = control.options[choice.get(place, control.first)]
            for key, values in option.traces.items():
                for trace, value in zip(traces, values, strict=True):
                    _put(trace, key, value)
            for key, value in option.layout.items():
                _put(layout, key, value)
        return traces, layout


def _put(mapping: dict[str, Any], key: str, value: Any) -> None:
    *places, last = key.split(".")
    for place in places:
        mapping = mapping.setdefault(place, {})
    mapping[last] = value


def axis(title: str, **settings: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    grid = {"gridcolor": "#e6e6e6", "zeroline": False, "automargin": True, "linecolor": "#767676"}
    return {**grid, "title": {"text": escaped(title)}, **settings}


def scale(letter: str, kind: Literal["linear", "log"]) -> Patch:
    """Return what makes an axis linear or logarithmic, which has room for fewer numbers."""
    return {f"{letter}axis.type": kind, f"{letter}axis.nticks": 3 if kind == "log" else 0}


def scale_control(letter: str, automatic: Option | None = None) -> Control:
    """Return the choice of a linear or a logarithmic axis.

    Args:
        letter: x or y.
        automatic: the first choice; linear if None.
    """
    kinds = [
        Option(label="linear", layout=scale(letter, "linear")),
        Option(label="logarithmic", layout=scale(letter, "log")),
    ]
    first = [automatic] if automatic else []
    return Control(name=f"{letter} axis scale", options=[*first, *kinds])


def escaped(text: str) -> str:
    """Return text for plotly, which would take what stands between < and > for a style."""
    return html.escape(text, quote=False)


def run_style(run: int) -> dict[str, Any]:
    """Return the colour, dash and mark of a run by its place."""
    colour = OKABE_ITO[run % len(OKABE_ITO)]
    return {
        "line": {"color": colour, "width": 2, "dash": DASHES[run // len(OKABE_ITO) % len(DASHES)]},
        "marker": {"color": colour, "symbol": MARKS[run % len(MARKS)], "size": 7},
        "meta": run,
    }
