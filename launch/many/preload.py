"""What takes seconds in a new process, done by importing this module.

The process from which those of runs are forked imports it, and each of them has it done: the
libraries, and numba's own preparations, which its first compiled function waits for.
"""

import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo

import launch.session  # noqa: F401
from mlmc_ray.kernels.finite import all_finite

all_finite(torch.zeros(1))
