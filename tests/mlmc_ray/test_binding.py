"""What a method says of itself where it is used."""

from mlmc_ray.compressors import Context, PaperCost, PerLayer, PermK, TopK
from mlmc_ray.methods import (
    SERVER,
    CompressedSGD,
    DataParallelSGD,
    PartialParticipation,
)
from mlmc_ray.methods.binding import bound_method
from mlmc_ray.seeding import generator_for

HERE = Context(generator_for(0), worker_id=SERVER, num_workers=4, layer_sizes=(4, 20))


def test_the_formula_of_perm_k_counts_the_workers() -> None:
    method = CompressedSGD(compressor=PermK())
    assert bound_method(method, HERE).paper_cost(24) == PaperCost("64 d/M", 64 * 6)
    partial = PartialParticipation(method=method, participants=2)
    assert bound_method(partial, HERE).paper_cost(24) == PaperCost("64 d/M", 64 * 6)


def test_the_formula_of_a_wrapper_counts_the_layers() -> None:
    method = CompressedSGD(compressor=PerLayer(compressor=TopK(k=3)))
    cost = bound_method(method, HERE).paper_cost(24)
    assert cost is not None
    assert cost.bits == 2 * 64 * 3


def test_a_method_without_compressors_stays_as_it_is() -> None:
    assert bound_method(DataParallelSGD(), HERE) == DataParallelSGD()
