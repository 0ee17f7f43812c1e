"""Whether the parameters can be cut into a span for every server, before the first round."""

from collections.abc import Sequence

from launch.configuration.run_config import RunConfig
from launch.pages.in_words import in_words
from mlmc_ray.compressors.base import Context
from mlmc_ray.compressors.low_rank import rank_of
from mlmc_ray.errors import ConfigError
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import SERVER, LearnedCompression, PartialParticipation, PowerSGDMethod
from mlmc_ray.methods.learned.messages import Layout
from mlmc_ray.seeding import generator_for
from mlmc_ray.spans import Span, spans_of


def checked_spans(config: RunConfig, model: FlatModel) -> tuple[Span, ...]:
    """Return the spans of a model's parameters, of each of which the method can be run.

    Raises:
        ConfigError: there are too few parameters, or the method needs other layers than a span has.
    """
    try:
        spans = spans_of(model.layers, config.servers)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    method = config.method
    while isinstance(method, PartialParticipation):
        method = method.method
    if isinstance(method, PowerSGDMethod):
        _check_matrices(method, spans)
    if isinstance(method, LearnedCompression):
        for span in spans:
            _check_ends(config, method, span)
    return spans


def _check_matrices(method: PowerSGDMethod, spans: Sequence[Span]) -> None:
    """Refuse rounds of one exchange for some spans, and of two for others."""
    without = [
        span.index
        for span in spans
        if not any(rank_of(method.rank, shape) for shape in span.layer_shapes)
    ]
    if 0 < len(without) < len(spans):
        raise ConfigError(
            f"servers is {len(spans)}, and the spans of servers {without} hold no matrix to "
            f"project to rank {method.rank}, while others do: give fewer servers"
        )


def _check_ends(config: RunConfig, method: LearnedCompression, span: Span) -> None:
    """Refuse a span with too few layers to leave those at both ends aside."""
    context = Context(
        generator_for(config.seed),
        worker_id=SERVER,
        num_workers=config.workers,
        layer_sizes=span.layer_sizes,
        layer_shapes=span.layer_shapes,
    )
    try:
        Layout(method, context, span.dim)
    except ValueError as error:
        text = in_words(str(error))
        if config.servers > 1:
            text = (
                f"servers is {config.servers}, and for the span of server {span.index} alone: "
                f"{text}, or fewer servers"
            )
        raise ConfigError(f"method: {text}") from error
