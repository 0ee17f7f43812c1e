"""Detects files that are, or would be, imported instead of mlmc_ray's own packages.

A user's ``server.py`` hides the package ``server`` where its directory comes first on the path: in
Ray's worker processes that is the current directory, under ``python -m`` too. So does a checkout of
mlmc_ray where a wheel is installed, which does no harm while both are the same. Only the standard
library is imported here, since any other import might be the wrong one.
"""

import filecmp
import importlib.util
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

_PACKAGES = ("mlmc_ray", "workers", "server", "launch")
_ROOT = Path(__file__).resolve().parents[1]


def shadowing_file(directories: Iterable[str | Path] = ()) -> str | None:
    """Look for a file that takes the place of one of the packages.

    Args:
        directories: places that will come first on the path of some process.

    Returns:
        A message that names the file and the package, or None where all is well.
    """
    places = list(map(Path, directories))
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec and not spec.origin and (message := _remains(package, spec)):
            return message
        for candidate in _candidates(package, spec, places):
            if candidate != _ROOT / package / "__init__.py" and (message := _hidden_by(candidate)):
                return message
    return None


def _candidates(package: str, spec: ModuleSpec | None, places: list[Path]) -> Iterator[Path]:
    """Yield the files that this process imports, or others may import, under a package's name."""
    if spec and spec.origin:
        yield Path(spec.origin).resolve()
    for place in places:
        for file in (place / f"{package}.py", place / package / "__init__.py"):
            if file.is_file():
                yield file.resolve()


def _remains(package: str, spec: ModuleSpec) -> str | None:
    """Return a message on a directory without ``__init__.py`` that hides a package."""
    for place in spec.submodule_search_locations or ():
        if Path(place).resolve() != _ROOT / package:
            return (
                f"{place} has no __init__.py, and hides mlmc_ray's package {package!r} "
                f"({_ROOT / package}): it remains of an earlier installation; remove it: "
                f"rm -r {shlex.quote(str(place))}"
            )
    return None


def _hidden_by(file: Path) -> str | None:
    """Return a message on a file that hides a package, or None if it is no other than ours."""
    package = file.parent.name if file.name == "__init__.py" else file.stem
    root = file.parents[1]
    whole = all((root / name / "__init__.py").is_file() for name in _PACKAGES)
    if not (whole and file == root / package / "__init__.py"):
        return (
            f"{file} has the name of mlmc_ray's package {package!r} ({_ROOT / package}) and is, or "
            "in worker processes would be, imported instead: rename it, or run from another "
            "directory"
        )
    if (differing := _difference(root)) is None:
        return None
    return (
        f"{root} is a checkout of mlmc_ray, and in worker processes would be imported instead of "
        f"the installed one ({_ROOT}), from which it differs in {differing}: install it with "
        f"pip install -e {shlex.quote(str(root))}, or run from another directory"
    )


@cache
def _difference(root: Path) -> str | None:
    """Return the first Python file of the packages that another place has not, or not the same."""
    ours, others = _modules(_ROOT), _modules(root)
    for name in sorted(ours | others):
        both = name in ours and name in others
        if not (both and filecmp.cmp(_ROOT / name, root / name, shallow=False)):
            return name
    return None


def _modules(root: Path) -> set[str]:
    files = [file for package in _PACKAGES for file in (root / package).rglob("*.py")]
    return {str(file.relative_to(root)) for file in files}
