"""Importing a user's own classes by their dotted paths."""

import difflib
import importlib
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import PathFinder
from os.path import samefile
from types import ModuleType
from typing import Any

from mlmc_ray.errors import ProblemError, one_line


def extend_path(directories: Iterable[str]) -> None:
    """Let Python look in some directories too, after all others."""
    sys.path.extend(path for path in directories if path not in sys.path)


def import_object(path: str, search_paths: Sequence[str], place: str) -> Any:
    """Import ``module.name``.

    Args:
        path: dotted.
        search_paths: directories to look in after Python's own.
        place: who asks, for errors.

    Raises:
        ProblemError: it cannot be imported, or there is nothing of that name.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise ProblemError(f"{place}: {path!r:.200} is not a dotted path: give module.Class")
    extend_path(search_paths)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        places = ", ".join(search_paths) or "Python's own path"
        raise ProblemError(
            f"{place}: cannot import {module_name!r:.200}: {type(error).__name__}: "
            f"{one_line(error)} "
            f"- looked in {places}"
        ) from error
    _check_place(module_name, search_paths, place)
    if not hasattr(module, name):
        raise ProblemError(
            f"{place}: module {module_name!r} has no {name!r:.200}{_advice(module, name)}"
        )
    return getattr(module, name)


def _advice(module: ModuleType, name: str) -> str:
    """Return the name that may be meant, and where the module is."""
    if module.__name__ == "__main__":
        return "; worker processes do not see what a script or notebook defines: put it in a file"
    known = [known for known, value in vars(module).items() if callable(value)]
    matches = difflib.get_close_matches(name, known, n=1)
    suggestion = f" (did you mean {matches[0]!r}?)" if matches else ""
    file = getattr(module, "__file__", None)
    return f"{suggestion}, which is {file}" if file else suggestion


def _check_place(module_name: str, search_paths: Sequence[str], place: str) -> None:
    """Refuse a module that took the place of the one meant, found or imported before it."""
    top = module_name.partition(".")[0]
    spec = PathFinder.find_spec(top, list(search_paths))
    found = getattr(sys.modules[top], "__file__", None)
    if spec is not None and spec.origin and found and not samefile(found, spec.origin):
        raise ProblemError(
            f"{place}: {top!r} is already {found}, which hides {spec.origin}: rename one"
        )
