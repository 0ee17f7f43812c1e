"""What problems share that train one vector of variables, with one function f_i a worker."""

import torch
from torch import Tensor, nn


class Variables(nn.Module):
    """One vector x of variables, shape (dim,), float32; ``forward`` returns it.

    Args:
        start: the first x.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(start.to(torch.float32, copy=True))

    def forward(self, _: None) -> Tensor:
        """Return x."""
        return self.x


def check_workers(num_functions: int, num_workers: int) -> None:
    """Refuse a number of workers that is not the number of functions.

    Raises:
        ValueError: names both.
    """
    if num_workers != num_functions:
        raise ValueError(
            f"num_functions is {num_functions} and there are {num_workers} workers; every worker "
            "holds one function, so set both alike"
        )
