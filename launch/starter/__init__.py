"""The project that ``mlmc-ray init`` makes.

Its files lie in ``project``, with ``@NAME@`` where the name of the run goes. Two more are made: the
data, so that the task has some, and the schema of this version, so that editors know the keys.
"""

import csv
import io
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from launch.configuration.schema import schema_text
from launch.configuration.yaml_text import escaped
from launch.run_directory import writing
from mlmc_ray.errors import ConfigError

NEXT = (
    "mlmc-ray train config.yaml",
    "mlmc-ray compare compare.yaml",
    "mlmc-ray report runs/*",
    "pip install pytest && python -m pytest",
)
"""What to run in a new project."""

_FILES = {
    "README.md": "README.md",
    "compare.yaml": "compare.yaml",
    "config.yaml": "config.yaml",
    "gitignore": ".gitignore",
    "task.py": "task.py",
    "test_task.py": "test_task.py",
}
_SHOWN = 5  # names of files that are in the way


def start(directory: Path, name: str | None = None) -> list[str]:
    """Make a project that runs as it is.

    Args:
        directory: made if need be; must be empty.
        name: of the run; by default the directory's.

    Returns:
        The names of its files.

    Raises:
        ConfigError: the directory holds something or cannot be written, or the name is none.
    """
    name = _checked(directory.resolve().name if name is None else name)
    with writing(directory):
        found = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    _check_none(found, directory)
    made = dict(sorted(_contents(name)))
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for file, text in made.items():
            (directory / file).write_text(text, encoding="utf-8")
    return list(made)


def _checked(name: str) -> str:
    """Return a name that a file can hold on one line.

    Raises:
        ConfigError: it cannot.
    """
    if not name.strip() or not name.isprintable():
        raise ConfigError(f"--name {name!r}: give printable letters, at least one")
    return name


def _check_none(found: list[str], directory: Path) -> None:
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ConfigError(
            f"{directory} already holds {found[:_SHOWN]}{more}: give a directory that is new or "
            "empty"
        )


def _contents(name: str) -> Iterator[tuple[str, str]]:
    """Yield the names of the files and their texts."""
    project = resources.files(__name__) / "project"
    quoted = json.dumps(escaped(name), ensure_ascii=False)  # is YAML too
    for source, file in _FILES.items():
        text = (project / source).read_text(encoding="utf-8")
        yield file, text.replace("@NAME@", quoted if file.endswith(".yaml") else name)
    yield "data.csv", _data()
    yield "configuration.schema.json", schema_text()


def _data() -> str:
    """Return the wines that come with scikit-learn: 13 measurements, and which of 3 growers."""
    from sklearn.datasets import load_wine  # takes a second to import

    wine = load_wine()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*wine.feature_names, "label"])
    for row, label in zip(wine.data.tolist(), wine.target.tolist(), strict=True):
        writer.writerow([*row, label])
    return text.getvalue()
