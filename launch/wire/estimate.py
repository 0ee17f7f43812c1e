"""Interface bytes of the frames of a ledger, without measuring."""

from collections.abc import Iterable, Sequence

from launch.wire.exchanges import calls_of
from launch.wire.transport import RAY, BothWays, Transport
from mlmc_ray.ledger import Entry


def estimated_interface_bytes(
    entries: Iterable[Entry], hosts: Sequence[Sequence[int]], transport: Transport = RAY
) -> BothWays:
    """Return an estimate of what frames come to on the interfaces of all hosts together.

    An estimate, of the frames and of constants that were fitted once; ``mlmc-ray wire`` measures.
    The server's interface carries the same bytes the other way round, and the driver's calls.

    Args:
        entries: of a ledger: of a run, or of one round, as sums add up.
        hosts: which workers each host has, each host on a node of its own.
        transport: the model.
    """
    per_call = [transport.of(call) for call in calls_of(entries, hosts)]
    return BothWays(
        sum(interface.downlink for interface in per_call),
        sum(interface.uplink for interface in per_call),
    )
