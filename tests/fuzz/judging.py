"""Whether an input is read as it should be."""

import traceback

from mlmc_ray.errors import one_line
from tests.fuzz.bounds import LONGEST_ERROR, LimitedTime, OutOfBounds, ran_out_of_memory
from tests.fuzz.targets import Target

_TIME = LimitedTime()


class Wrong(Exception):
    """An input ended in another way than it should: says how, and where in the code."""


def accepted(target: Target, data: bytes) -> bool:
    """Return whether a target accepts an input.

    Raises:
        Wrong: it neither accepts nor properly refuses it.
    """
    try:
        with _TIME:
            target.read(data)
    except target.errors as error:
        if ran_out_of_memory(error):
            raise Wrong(f"asks for too much memory: {one_line(error)}") from error
        if len(str(error)) > LONGEST_ERROR:
            raise Wrong(f"an error of {len(str(error))} letters: {one_line(error)}") from error
        return False
    except (Exception, OutOfBounds) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename.rpartition('/')[2]}:{frame.name}"
        raise Wrong(f"{type(error).__name__} in {place}: {one_line(error)}") from error
    return True
