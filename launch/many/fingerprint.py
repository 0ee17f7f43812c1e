"""What results were made with: one's own files, and the versions of mlmc-ray and torch.

Files are found by the names of modules, as an import would find them, and nothing is imported. So
they are the same in every process, whatever it has loaded, with those that are imported only inside
a function.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from launch.configuration.run_config import RunConfig

_PACKAGES = ("mlmc-ray", "torch")
_OURS = ("mlmc_ray", "workers", "server", "launch")
_INSTALLED = {"site-packages", "dist-packages"}
_LIBRARY = Path(ast.__file__).resolve().parent  # of Python


def made_with(configs: Iterable[RunConfig]) -> dict[str, str]:
    """Return what runs depend on beside their configurations, by name.

    Args:
        configs: whose problems have been loaded in this process.

    Returns:
        The versions of packages, and a digest of every file of one's own in which a problem, a
        method or a compressor is defined, or that such a file imports, by the name of its module.
        Installed packages and files of data do not count.
    """
    found = {name: metadata.version(name) for name in _PACKAGES}
    for name, path in sorted(_own_files(configs).items()):
        inside = "/__init__" if path.name == "__init__.py" else ""
        shown = f"{name.replace('.', '/')}{inside}.py"
        found[shown] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Return in words what is no longer the same."""
    told = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name in _PACKAGES:
            told.append(f"{name} was {old} and is {new}")
        else:
            how = "is new" if old is None else "is not used" if new is None else "was edited"
            told.append(f"{name} {how}")
    return told


def _own_files(configs: Iterable[RunConfig]) -> dict[str, Path]:
    """Return the files of modules that are not installed, by module, with all they import."""
    waiting = sorted(
        {part for config in configs for name in _defining(config) for part in _up_to(name)}
    )
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        path = None if name in found else _own_file(name)
        if path is not None:
            found[name] = path
            waiting += _imported(name, path)
    return found


def _defining(config: RunConfig) -> Iterator[str]:
    """Yield the modules in which the parts of a run are defined."""
    yield config.problem.path.rpartition(".")[0]
    waiting: list[Any] = [config.method, config.optimizer, config.schedule]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple):
            waiting += value
        elif dataclasses.is_dataclass(value):
            yield type(value).__module__
            waiting += [getattr(value, field.name) for field in dataclasses.fields(value)]


def _up_to(name: str) -> Iterator[str]:
    """Yield the packages around a module, and the module."""
    parts = name.split(".")
    yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _own_file(name: str) -> Path | None:
    """Return the file of a module; None for an installed one, and for those of mlmc-ray."""
    if name.partition(".")[0] in _OURS:
        return None
    spec = _spec(name)
    # what no import finds, such as the program itself, has been loaded otherwise
    place = spec.origin if spec else getattr(sys.modules.get(name), "__file__", None)
    if place is None or not place.endswith(".py"):
        return None
    path = Path(place).resolve()
    installed = _INSTALLED & set(path.parts) or path.is_relative_to(_LIBRARY)
    return None if installed or not path.is_file() else Path(place)


def _spec(name: str) -> ModuleSpec | None:
    """Return what an import of a module would find."""
    top, *inner = name.split(".")
    found = (finder.find_spec(top, None) for finder in sys.meta_path)
    spec = next((spec for spec in found if spec is not None), None)
    for part in inner:  # by its last name alone, since the packages around it may not be loaded
        places = spec.submodule_search_locations if spec else None
        spec = None if places is None else PathFinder.find_spec(part, list(places))
    return spec


def _imported(name: str, path: Path) -> Iterator[str]:
    """Yield the modules that a file may import, with the packages around them."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # edited since it was loaded
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = _imported_from(node, package)
        else:
            continue
        for imported in names:
            yield from _up_to(imported)


def _imported_from(node: ast.ImportFrom, package: str) -> list[str]:
    """Return what ``from ... import`` names; nothing where it would fail, as in a ``try``."""
    base = node.module or ""
    if node.level:
        try:
            base = importlib.util.resolve_name("." * node.level + base, package)
        except ImportError:
            return []
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]
