"""A user's own compressor, whose failures say that it was this one, and where in its code."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Generator, Tensor

from mlmc_ray.errors import MlmcRayError, ProblemError, one_line
from mlmc_ray.own_code import own_place
from mlmc_ray.payloads import Payload

if TYPE_CHECKING:
    from mlmc_ray.compressors.base import Compressor, PaperCost


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A compressor that is not the library's, with its payloads checked and its errors explained.

    Attributes:
        compressor: does the work.
    """

    compressor: "Compressor"

    @property
    def unbiased(self) -> bool:
        """Whether the compressor claims to be."""
        return self.compressor.unbiased

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the compressor's payload.

        Raises:
            ProblemError: its code failed, or it returned no payload for this vector; names it.
        """
        name = type(self.compressor).__qualname__
        try:
            payload = self.compressor.compress(vector, generator=generator)
        except MlmcRayError:
            raise
        except Exception as error:
            raise ProblemError(
                f"compressor {name}: {type(error).__name__} while compressing: {one_line(error)}"
                f"{own_place(error)}"
            ) from error
        if not isinstance(payload, Payload):
            raise ProblemError(
                f"compressor {name}: compress returned {_of_kind(payload)}: return a payload, such "
                "as SparsePayload(dim, indices, values) of mlmc_ray.payloads"
            )
        if payload.dim != vector.numel():
            raise ProblemError(
                f"compressor {name}: compress returned a payload of {payload.dim!r} entries for a "
                f"vector of {vector.numel()}: return one of that many"
            )
        return payload

    def omega(self, dim: int) -> float | None:
        """The compressor's."""
        return self.compressor.omega(dim)

    def alpha(self, dim: int) -> float | None:
        """The compressor's."""
        return self.compressor.alpha(dim)

    def paper_cost(self, dim: int) -> "PaperCost | None":
        """The compressor's."""
        return self.compressor.paper_cost(dim)


def watched(compressor: "Compressor") -> "Compressor":
    """Return the library's own compressors as they are, and others watched."""
    library = __name__.partition(".")[0]
    own = type(compressor).__module__.partition(".")[0] != library
    return Watched(compressor=compressor) if own else compressor


def _of_kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__qualname__}"
