"""Reading files of images with torchvision, and saying which of them is damaged."""

import json
import shlex
import zlib
from pathlib import Path
from typing import Any

from mlmc_ray.errors import ProblemError, one_line

_REASONS = (
    *(AssertionError, EOFError, LookupError, OSError),
    *(RuntimeError, TypeError, ValueError, zlib.error),
)
"""What torchvision raises for files that are damaged or not there."""
_REINSTALL = "run 'apt install --reinstall dataset-fashion-mnist'"


def unpack(dataset: Any, packed: Path, directory: Path) -> None:
    """Unpack the files of Debian's package, 55 MB, to where torchvision looks for them.

    Args:
        dataset: torchvision's class.
        packed: where the package puts its files.
        directory: where torchvision looks.

    Raises:
        ProblemError: a file is not there, or damaged.
    """
    from mlmc_ray.problems.torchvision_import import datasets  # takes seconds to import

    raw = directory / dataset.__name__ / "raw"
    raw.mkdir(parents=True)
    for name, _ in dataset.resources:
        path = packed / name
        if not path.is_file():
            command = fetching(dataset.__name__, "DIRECTORY")
            raise ProblemError(
                f"{dataset.__name__}: there is no {path}: run 'apt install "
                f"dataset-fashion-mnist', or give data_dir, after {command}"
            )
        try:
            datasets.utils.extract_archive(str(path), str(raw))
        except _REASONS as error:
            raise _damaged(dataset, path, error, _REINSTALL) from error


def read(
    dataset: Any, data_dir: str | Path, *, advice: str = "", packed: Path | None = None
) -> tuple[Any, Any]:
    """Return torchvision's training and test data set.

    Args:
        dataset: torchvision's class.
        data_dir: where torchvision looks.
        advice: what else helps when the data are not there, for the error.
        packed: where the files were unpacked from, if they were.

    Raises:
        ProblemError: the data are not there, or a file is damaged.
    """
    directory = Path(data_dir).expanduser().absolute()
    folder = directory / getattr(dataset, "base_folder", f"{dataset.__name__}/raw")
    command = fetching(dataset.__name__, str(directory))
    try:
        return dataset(directory, train=True), dataset(directory, train=False)
    except _REASONS as error:
        for name, reason in _unreadable(dataset, folder):
            path = folder / name
            again = f"delete it and run {command}{advice}"
            if packed is not None:
                path, again = packed / f"{name}.gz", _REINSTALL
            raise _damaged(dataset, path, reason, again) from error
        raise ProblemError(
            f"{dataset.__name__}: torchvision finds no complete data in {folder}: run "
            f"{command}{advice}"
        ) from error


def _unreadable(dataset: Any, raw: Path) -> list[tuple[str, Exception]]:
    """Return the files in the MNIST format that torchvision cannot read, each with the reason."""
    from mlmc_ray.problems.torchvision_import import datasets

    found: list[tuple[str, Exception]] = []
    for packed, _ in getattr(dataset, "resources", ()):
        name = packed.removesuffix(".gz")
        images = "images" in name
        reader = datasets.mnist.read_image_file if images else datasets.mnist.read_label_file
        try:
            if (raw / name).is_file():
                reader(str(raw / name))
        except _REASONS as error:
            found.append((name, error))
    return found


def _damaged(dataset: Any, path: Path, reason: Exception, remedy: str) -> ProblemError:
    text = f"{type(reason).__name__}: {one_line(reason)}".removesuffix(": ")
    return ProblemError(f"{dataset.__name__}: cannot read {path} ({text}): {remedy}")


def fetching(name: str, directory: str) -> str:
    """Return the command that fetches a data set.

    Args:
        name: of torchvision's class.
        directory: where to put it, the ``data_dir`` of the problem.
    """
    source = "from mlmc_ray.problems.torchvision_import import datasets"
    place = json.dumps(directory, ensure_ascii=False)
    return f"python -c {shlex.quote(f'{source}; datasets.{name}({place}, download=True)')}"
