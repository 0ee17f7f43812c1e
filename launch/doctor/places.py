"""Data sets, caches, and room on disk and in memory."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from launch.display.units import format_bytes
from launch.doctor.finding import Finding
from mlmc_ray.kernels.compiled import cache_directory, number_kept, wanted_directory

_ENOUGH = 2e9
_ENOUGH_SHARED = 2e8
_TOPIC = "caches and space"
_CIFAR = {
    "cifar-10": ("CIFAR10", "cifar-10-batches-py", "170 MB"),
    "cifar-100": ("CIFAR100", "cifar-100-python", "169 MB"),
}
"""By kind: torchvision's class, its directory, and how much is fetched."""


def data_sets(data_dir: Path) -> Iterator[Finding]:
    """Look for the files of the problems that come with mlmc_ray."""
    from mlmc_ray.problems.image_files import fetching
    from mlmc_ray.problems.vision import DEBIAN_FASHION_MNIST

    topic = "data sets"
    yield Finding(topic=topic, name="digits", state="ok", text="comes with scikit-learn")
    if any(DEBIAN_FASHION_MNIST.glob("*.gz")):
        text = str(DEBIAN_FASHION_MNIST)
        yield Finding(topic=topic, name="fashion-mnist", state="ok", text=text)
    else:
        yield Finding(
            topic=topic,
            name="fashion-mnist",
            state="hint",
            text="not installed; only `problem: fashion-mnist` needs it",
            remedy="apt install dataset-fashion-mnist",
        )
    for name, (cls, folder, size) in _CIFAR.items():
        if (data_dir / folder).is_dir():
            yield Finding(topic=topic, name=name, state="ok", text=str(data_dir))
            continue
        yield Finding(
            topic=topic,
            name=name,
            state="hint",
            text=f"not in {data_dir}; only `problem: {name}` needs it, in its data_dir; {size}:",
            remedy=fetching(cls, str(data_dir)),
        )
    text = "the movie reviews come with mlmc_ray"
    yield Finding(topic=topic, name="text", state="ok", text=text)


def space() -> Iterator[Finding]:
    """Look at compiled kernels, and at what runs fill."""
    yield _torchvision()
    yield _kernels()
    yield _room("disk, here", Path.cwd(), _ENOUGH, "du -sh runs/*")
    temporary = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    yield _room("disk, Ray's files", temporary, _ENOUGH, f"du -sh {temporary / 'ray'}/*")
    if (shared := Path("/dev/shm")).is_dir():
        yield _room("shared memory", shared, _ENOUGH_SHARED, "docker run --shm-size=2g ...")
    if (memory := Path("/proc/meminfo")).is_file():
        values = dict(line.split(":") for line in memory.read_text().splitlines())
        free = float(values["MemAvailable"].split()[0]) * 1024
        yield _amount("memory", "", free, _ENOUGH, "mlmc-ray train CONFIG --set actors=1")


def _torchvision() -> Finding:
    """Say whether torchvision's data sets and models can be imported."""
    from mlmc_ray.problems import torchvision_import

    whole = not hasattr(torchvision_import, "_declared")
    text = "imports" if whole else "imports, less the operators that its other build of torch has"
    return Finding(topic=_TOPIC, name="torchvision", state="ok", text=text)


def _kernels() -> Finding:
    """Say whether numba can keep what it compiles."""
    name, wanted, place = "numba cache", wanted_directory(), cache_directory()
    if place is None:
        return Finding(
            topic=_TOPIC,
            name=name,
            state="hint",
            text=f"{wanted} cannot be written: every process compiles the kernels again",
            remedy=f"export NUMBA_CACHE_DIR={tempfile.gettempdir()}/kernels-of-mlmc-ray",
        )
    instead = "" if place == wanted else f", since {wanted} cannot be written"
    if not (kept := number_kept()):
        text = f"{place} is empty: the first run compiles the kernels, which takes a minute"
        return Finding(topic=_TOPIC, name=name, state="ok", text=f"{text}{instead}")
    return Finding(topic=_TOPIC, name=name, state="ok", text=f"{kept} kernels in {place}{instead}")


def _room(name: str, place: Path, enough: float, remedy: str) -> Finding:
    return _amount(name, f" in {place}", shutil.disk_usage(place).free, enough, remedy)


def _amount(name: str, where: str, free: float, enough: float, remedy: str) -> Finding:
    text = f"{format_bytes(free)} free{where}"
    if free >= enough:
        return Finding(topic=_TOPIC, name=name, state="ok", text=text)
    text = f"{text}, and {format_bytes(enough)} is little enough"
    return Finding(topic=_TOPIC, name=name, state="hint", text=text, remedy=remedy)
