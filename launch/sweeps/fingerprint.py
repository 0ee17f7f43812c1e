"""What results were made with: one's own files, and the versions of mlmc-ray and torch."""

import ast
import dataclasses
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
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
        method or a compressor is defined, or that such a file imports. Installed packages and files
        of data do not count.
    """
    found = {name: metadata.version(name) for name in _PACKAGES}
    for name, path in sorted(_own_files(configs).items()):
        inside = name.count(".") + (2 if path.name == "__init__.py" else 1)
        shown = "/".join(path.parts[-inside:])  # without what depends on the machine
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
    waiting = sorted({name for config in configs for name in _defining(config)})
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        path = _own_file(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += _imported(sys.modules[name], path)
    return found


def _defining(config: RunConfig) -> Iterator[str]:
    """Yield the modules in which the parts of a run are defined."""
    yield config.problem.path.rpartition(".")[0]
    waiting: list[Any] = [config.method, config.optimizer]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple):
            waiting += value
        elif dataclasses.is_dataclass(value):
            yield type(value).__module__
            waiting += [getattr(value, field.name) for field in dataclasses.fields(value)]


def _own_file(name: str) -> Path | None:
    """Return the file of a loaded module; None for an installed one, and for those of mlmc-ray."""
    place = getattr(sys.modules.get(name), "__file__", None)
    if place is None or name.partition(".")[0] in _OURS:
        return None
    path = Path(place).resolve()
    installed = _INSTALLED & set(path.parts) or path.is_relative_to(_LIBRARY)
    return None if installed or path.suffix != ".py" or not path.is_file() else path


def _imported(module: ModuleType, path: Path) -> Iterator[str]:
    """Yield the modules that a file may import, with the packages around them."""
    package = getattr(module, "__package__", None) or ""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # edited since it was loaded
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(start, package) if node.level else start
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))
