"""The errors of mlmc_ray.

    MlmcRayError
    ├── ConfigError      a configuration that cannot be used
    ├── ProblemError     a task that cannot be imported, or whose own code failed
    ├── WireError        a frame that is malformed, or newer than this reader
    │   └── DamagedError    frames that arrived otherwise than they were sent
    ├── NonFiniteError   NaN or infinity where a number is needed
    ├── RoundError       a round that could not be completed
    │   └── LostError       because an actor is gone, hangs, or got damaged frames
    ├── ClusterError     Ray could not be started, or has too few resources
    └── CheckpointError  a checkpoint that cannot be written or read

Bad arguments to a function of the library are ``ValueError``. Every class takes one string, so that
its instances survive the trip between processes. A message says what is wrong, where, and what
would put it right.
"""

import re
import textwrap


class MlmcRayError(Exception):
    """Base of everything that mlmc_ray raises at run time."""


class ConfigError(MlmcRayError):
    """A configuration that cannot be used: names the key, the value and what is allowed."""


class ProblemError(MlmcRayError):
    """A task that cannot be imported, has the wrong shape, or failed in its own code."""


class WireError(MlmcRayError):
    """A frame that cannot be decoded: names the field and its place in the frame."""


class DamagedError(WireError):
    """Frames arrived otherwise than they were sent: their checksum differs."""


class NonFiniteError(MlmcRayError):
    """A vector holds NaN or infinity and is refused: says how many, and where the first is."""


class RoundError(MlmcRayError):
    """A round that could not be completed: names the round and the workers concerned."""


class LostError(RoundError):
    """An actor is gone, hangs, or got damaged frames: others may run the round again."""


class ClusterError(MlmcRayError):
    """Ray could not be started or joined, or it cannot place the actors asked for."""


class CheckpointError(MlmcRayError):
    """A checkpoint that cannot be written or read: names the file and the reason."""


def one_line(error: BaseException, longest: int = 400) -> str:
    """Return what an exception says, on one line and not too long."""
    try:
        text = str(error)
    except Exception:  # somebody else's __str__
        text = type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[:longest]} ..."


def first_sentence(error: BaseException, longest: int = 200) -> str:
    """Return the first sentence of what an exception says, cut between words if it is too long."""
    sentence = re.split(r"(?<=[.!?]) ", one_line(error, 10 * longest), maxsplit=1)[0]
    return textwrap.shorten(sentence, longest, placeholder=" ...")
