"""A method whose compressors know where they are used, for what it says of itself."""

import dataclasses
from typing import Any, cast

from mlmc_ray.compressors.base import Compressor, Context
from mlmc_ray.methods.base import Method
from mlmc_ray.methods.theory import bound_anywhere


def bound_method(method: Method, context: Context) -> Method:
    """Return a method with its compressors, and those of a method in it, bound to a context.

    Args:
        method: as configured.
        context: a worker's, or the server's: what is the same for all workers is the same.
    """
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(cast(Any, method)):
        value = getattr(method, field.name)
        if isinstance(value, Method):
            changes[field.name] = bound_method(value, context)
        elif isinstance(value, Compressor):
            changes[field.name] = bound_anywhere(value, context)
    same: Method = dataclasses.replace(cast(Any, method), **changes)
    return same
