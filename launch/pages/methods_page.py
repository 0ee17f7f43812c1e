"""What there is to say about the methods, made from what the code says of them."""

import dataclasses
import inspect
from itertools import takewhile
from typing import Any

from launch.configuration.catalogue import KINDS
from launch.pages.example_settings import method_example
from launch.pages.kind_page import section
from mlmc_ray.methods import Method
from mlmc_ray.methods.base import has_theory

_HEAD = """\
# Methods

Printed by `mlmc-ray methods --markdown` from the docstrings of the code. *d* is the number of
parameters, *M* of workers, *C* a compressed vector, x the parameters, f the mean of the workers'
functions f_i. Unless it says otherwise the server's optimizer takes a step along the estimate, and
every worker gets the parameters, d numbers, at the start of a round. Names are those of payloads
and scalars in the frames; not all of them need be in every one. What theory knows of a step size
is what `step_size: theory` puts in, for the settings for which there is a proof.
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

_FAMILIES = {
    "": "without memory, or around another method",
    "shifts": "learned shifts",
    "running_estimates": "running estimates",
    "downlinks": "compressed downlink",
    "local": "local steps",
    "asynchronous": "workers of different speeds",
    "learned": "learned compression",
}
"""In plain words, the packages of ``mlmc_ray.methods`` whose names are none."""


def methods_page() -> str:
    """Return the page in Markdown."""
    return "\n".join([_HEAD, _overview(), *(method_section(kind) for kind in KINDS[Method])])


def method_section(kind: str) -> str:
    """Return the section on a kind of method, in Markdown."""
    cls = KINDS[Method][kind]
    facts = dataclasses.asdict(cls.facts)
    for name in ("news", "reports"):
        facts[name] = ", ".join(f"`{word}`" for word in facts[name])
    lines = [f"{label}: {facts[name]}" for name, label in _FACTS.items() if facts[name]]
    theory = _known(cls)
    theory += f", {_formulas(cls.theory)}" if has_theory(cls) else ""
    lines.insert(-1, f"step size by theory: {theory}")
    return section(kind, cls, lines, method_example(kind, cls))


def families() -> dict[str, dict[str, type[Any]]]:
    """Return the kinds of methods by family, in the order of the catalogue."""
    found: dict[str, dict[str, type[Any]]] = {}
    for kind, cls in KINDS[Method].items():
        package = cls.__module__.removeprefix("mlmc_ray.methods.").rpartition(".")[0]
        words = _FAMILIES.get(package, package.replace("_", " "))
        found.setdefault(words, {})[kind] = cls
    return found


def theory_in_words(cls: type[Any]) -> str:
    """Return in a few words whether ``step_size: theory`` is known."""
    return f"step_size: theory is {_known(cls)}"


def _formulas(theory: Any) -> str:
    """Return the first paragraph of a docstring, and those on the cases that follow it."""
    first, *others = (inspect.getdoc(theory) or "").split("\n\n")
    cases = takewhile(lambda text: text.startswith(("Where ", "With ")), others)
    told = [" ".join(text.split()).rstrip(".") for text in (first, *cases)]
    return ". ".join(told).replace("``", "`")


def _known(cls: type[Any]) -> str:
    needs = getattr(cls, "theory_needs", "")
    return (f"known for {needs}" if needs else "known") if has_theory(cls) else "not known"


def _overview() -> str:
    """Return a table of all methods, which leads to their sections."""
    columns = ("kind", "family", "compressor", "up", "down", "theory")
    rows = [columns, ("---",) * len(columns)]
    for family, listed in families().items():
        for kind, cls in listed.items():
            facts = cls.facts
            sent = (facts.compressor, facts.uplink, facts.downlink)
            rows.append((f"[`{kind}`](#{kind})", family, *sent, _known(cls)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
