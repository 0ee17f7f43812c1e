"""The page of all methods, made from what the code says of them: docs/methods.md."""

import dataclasses
import inspect
from typing import Any

from launch.catalogue import KINDS
from launch.fields import settings_of
from mlmc_ray.methods import Method

_HEAD = """\
# Methods

Printed by `mlmc-ray methods --markdown` from the docstrings of the code. *d* is the number of
parameters, *M* of workers, *C* a compressed vector, x the parameters, f the mean of the workers'
functions f_i. Unless it says otherwise the server's optimizer takes a step along the estimate, and
every worker gets the parameters, d numbers, at the start of a round. Names are those of payloads
and scalars in the frames; not all of them need be in every one.
"""

_FACTS = {
    "compressor": "compressor",
    "uplink": "up, a round and worker",
    "downlink": "down",
    "reports": "names in reports",
    "news": "names in news",
    "first": "before, once",
    "worker_memory": "a worker remembers",
    "server_memory": "the server remembers",
    "guarantee": "guarantee",
    "reference": "source",
}


def methods_page() -> str:
    """Return the page in Markdown."""
    return "\n".join([_HEAD, *(_section(kind, cls) for kind, cls in KINDS[Method].items())])


def _section(kind: str, cls: type[Any]) -> str:
    facts = dataclasses.asdict(cls.facts)
    for name in ("news", "reports"):
        facts[name] = ", ".join(f"`{word}`" for word in facts[name])
    lines = [f"- {label}: {facts[name]}" for name, label in _FACTS.items() if facts[name]]
    settings = settings_of(cls)
    if settings:
        lines.insert(0, f"- settings: `{settings}`")
    return "\n".join([f"## `{kind}`", "", _paragraphs(cls), "", *lines, ""])


def _paragraphs(cls: type[Any]) -> str:
    """Return a docstring up to its list of arguments or sources."""
    kept = []
    for line in (inspect.getdoc(cls) or "").splitlines():
        if line in ("Args:", "Attributes:", "References:"):
            break
        kept.append(line)
    return "\n".join(kept).rstrip()
