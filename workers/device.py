"""Where workers compute: on the CPU, or on a GPU."""

import os
import socket
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from mlmc_ray.errors import ClusterError
from mlmc_ray.problems import Shard, TensorShard


def why_no_gpu() -> str | None:
    """Return why torch can use no GPU in this process and what to do; None if it can use one."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: install one with it"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, and "
        f"CUDA_VISIBLE_DEVICES is {visible!r}: see whether nvidia-smi lists a GPU"
    )


def checked_device(name: str, worker_ids: Sequence[int]) -> torch.device:
    """Return the device of that name.

    Args:
        name: as torch calls it.
        worker_ids: who is to compute there, for the error.

    Raises:
        ClusterError: it is a GPU, and torch finds none; names the machine and what to do.
    """
    device = torch.device(name)
    reason = why_no_gpu() if device.type == "cuda" else None
    if reason:
        raise ClusterError(
            f"device is {name}, and torch finds no GPU for workers {list(worker_ids)} on "
            f"{socket.gethostname()}: {reason}, or give device: cpu"
        )
    return device


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on the device; on the CPU it is the same object.

    Args:
        batch: a tensor, or tuples, lists and dicts of tensors; whatever else is in it stays.
        device: where to.
    """
    if device.type == "cpu":
        return batch
    return tree_map(lambda part: part.to(device) if isinstance(part, Tensor) else part, batch)


def placed(shard: Shard, device: torch.device) -> Shard:
    """Return a shard with its tensors on the device, if it is one of tensors; else as it is.

    Args:
        shard: a ``TensorShard`` is moved once; batches of others are moved one by one.
        device: where to.
    """
    return shard.to(device) if isinstance(shard, TensorShard) else shard
