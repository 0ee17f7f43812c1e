"""Time and memory that a call takes, on the CPU or on a GPU, and what machine that is."""

import ctypes
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return processor, cores, system, versions and the GPU in use, for a file of results.

    Args:
        device: what is computed on; of "cuda" the GPU is named.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy", "numba")},
        **({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}),
    }


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    """Return how long a call takes, with all that it started on a GPU."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait for all that was started on a GPU; on the CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_seconds(vector: Tensor) -> float:
    """Return the time of a copy on the vector's device; it allocates, as a caller's copy would."""
    copy = vector.numpy().copy if vector.device.type == "cpu" else vector.clone
    times = [seconds(copy, vector.device) for _ in range(20)]
    return statistics.median(times)


@contextmanager
def peak_gpu_memory() -> Iterator[list[int]]:
    """Yield a list that at the end holds the growth of the peak of what tensors take on the GPU."""
    result: list[int] = []
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield result
    result.append(torch.cuda.max_memory_allocated() - before)


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Yield a list that at the end holds the growth of the peak resident memory, if known.

    Linux only: the peak is reset through /proc, after free memory has been handed back.
    """
    result: list[int] = []
    try:
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    except (OSError, KeyError):
        yield result
        return
    yield result
    result.append(max(0, _status("VmHWM") - before))


def _status(name: str) -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields[name].split()[0])
