import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlmc_ray.flat import FlatModel, Layer, copied


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def loss(module: nn.Module) -> Tensor:
    inputs = torch.arange(15, dtype=torch.float32).view(5, 3) / 7
    return functional.cross_entropy(module(inputs), torch.tensor([0, 1, 0, 1, 1]))


def test_the_vector_holds_the_parameters_in_order() -> None:
    module = network()
    before = torch.cat([p.detach().clone().reshape(-1) for p in module.parameters()])
    flat = FlatModel(module)
    assert torch.equal(flat.parameters, before)
    assert flat.parameters.dtype == torch.float32
    assert flat.layers == (
        Layer("0.weight", (4, 3), 0, 12),
        Layer("0.bias", (4,), 12, 16),
        Layer("1.weight", (4,), 16, 20),
        Layer("1.bias", (4,), 20, 24),
        Layer("3.weight", (2, 4), 24, 32),
        Layer("3.bias", (2,), 32, 34),
    )


def test_parameters_and_gradients_are_views() -> None:
    flat = FlatModel(network())
    for layer, parameter in zip(flat.layers, flat.module.parameters(), strict=True):
        assert parameter.grad is not None
        assert parameter.data_ptr() == flat.parameters[layer.start :].data_ptr()
        assert parameter.grad.data_ptr() == flat.gradients[layer.start :].data_ptr()
        assert parameter.shape == parameter.grad.shape == layer.shape


def test_gradients_land_in_the_vector_and_add_up() -> None:
    plain, flat = network(), FlatModel(network())
    for times in (1, 2):
        loss(flat.module).backward()  # type: ignore[no-untyped-call]
        loss(plain).backward()  # type: ignore[no-untyped-call]
        expected = [p.grad.reshape(-1) for p in plain.parameters() if p.grad is not None]
        torch.testing.assert_close(flat.gradients, torch.cat(expected), rtol=1e-6, atol=1e-7)
        assert bool(flat.gradients.any()), times


def test_the_model_computes_with_what_is_in_the_vector() -> None:
    flat = FlatModel(network())
    flat.parameters.zero_()
    assert loss(flat.module).item() == pytest.approx(torch.tensor(2.0).log().item())


def test_running_statistics_are_one_vector() -> None:
    flat = FlatModel(network())
    assert flat.statistics().tolist() == [0] * 4 + [1] * 4
    loss(flat.module)
    norm = flat.module[1]  # type: ignore[index]
    assert torch.equal(flat.statistics(), torch.cat([norm.running_mean, norm.running_var]))
    assert bool((flat.statistics()[:4] != 0).all())


def test_running_statistics_can_be_put_in() -> None:
    flat = FlatModel(network())
    flat.set_statistics(torch.arange(8.0))
    state = flat.module.state_dict()
    assert state["1.running_mean"].tolist() == [0, 1, 2, 3]
    assert state["1.running_var"].tolist() == [4, 5, 6, 7]
    assert state["1.num_batches_tracked"].item() == 0


def test_a_model_without_buffers() -> None:
    flat = FlatModel(nn.Linear(2, 1))
    assert (flat.statistics().shape, flat.statistics().dtype) == ((0,), torch.float32)
    assert (flat.num_statistics, flat.buffers()) == (0, {})


def test_layer_at() -> None:
    flat = FlatModel(network())
    names = [flat.layer_at(index).name for index in range(34)]
    assert names == [layer.name for layer in flat.layers for _ in range(layer.stop - layer.start)]


def test_frozen_parameters_stay_outside() -> None:
    module = network()
    module[0].weight.requires_grad_(False)
    flat = FlatModel(module)
    assert flat.layers[0].name == "0.bias"
    assert len(flat.parameters) == 22


def test_tied_parameters_are_one() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    flat = FlatModel(nn.Sequential(first, second))
    assert [layer.name for layer in flat.layers] == ["0.weight", "0.bias", "1.bias"]
    assert first.weight is second.weight
    flat.parameters.fill_(2)
    assert torch.equal(second.weight, torch.full((3, 3), 2.0))
    apart = FlatModel(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    apart.module.load_state_dict(flat.module.state_dict())
    for model in (flat, apart):
        model.module(torch.ones(1, 3)).sum().backward()
    assert torch.equal(flat.gradients[:9], apart.gradients[:9] + apart.gradients[12:21])


def test_shared_buffers_are_one() -> None:
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    second.running_mean = first.running_mean
    flat = FlatModel(nn.Sequential(first, second))
    assert flat.num_statistics == 6
    flat.set_buffers(copy.deepcopy(flat.buffers()))
    flat.set_statistics(torch.full((6,), 5.0))
    assert first.running_mean is not None
    assert second.running_mean is not None
    assert first.running_mean.data_ptr() == second.running_mean.data_ptr()
    assert second.running_mean.tolist() == [5, 5]


def test_a_model_is_moved_before_it_is_made_flat() -> None:
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    second.running_mean = first.running_mean
    device = torch.device("meta")  # tensors without numbers, on any machine
    flat = FlatModel(nn.Sequential(nn.Linear(2, 2), first, second), device)
    assert flat.device == flat.gradients.device == device
    tensors = [*flat.module.parameters(), *flat.buffers().values()]
    assert all(tensor.device == device for tensor in tensors)
    assert flat.num_statistics == 6
    assert second.running_mean is first.running_mean
    assert second.running_var is not first.running_var
    flat.module(torch.ones(3, 2, device=device)).sum().backward()
    flat.check_parameters()
    assert all(parameter.grad is not None for parameter in flat.module.parameters())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_copies_of_buffers_that_are_one_are_one(device: str) -> None:
    norm = nn.BatchNorm1d(2)
    buffers = {"a": norm.running_mean, "b": norm.running_var, "c": norm.running_mean}
    copies = copied(
        {name: tensor for name, tensor in buffers.items() if tensor is not None},
        torch.device(device),
    )
    assert {tensor.device.type for tensor in copies.values()} == {device}
    assert copies["a"] is copies["c"]
    assert copies["b"] is not copies["a"]
    assert copies["a"] is not norm.running_mean


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_copies_of_views_of_one_storage_share_one(device: str) -> None:
    whole = torch.arange(6.0)
    views = {"first": whole[:4], "last": whole[2:].view(2, 2).t(), "whole": whole}
    copies = copied(views, torch.device(device))
    assert len({copy.untyped_storage()._cdata for copy in copies.values()}) == 1
    for name, view in views.items():
        found = copies[name]
        assert (found.shape, found.stride()) == (view.shape, view.stride())
        assert (found.storage_offset(), found.device.type) == (view.storage_offset(), device)


def test_copies_hold_the_numbers_and_no_memory_of_the_originals() -> None:
    whole = torch.arange(6.0)
    buffers = {
        "view": whole[2:].view(2, 2).t(),
        "whole": whole,
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "sparse": torch.eye(2).to_sparse(),
        "empty": torch.empty(0, 3),
        "mask": torch.tensor([True, False]),
    }
    expected = {name: tensor.to_dense().tolist() for name, tensor in buffers.items()}
    copies = copied(buffers, torch.device("cpu"))
    whole.zero_()
    buffers["mask"].zero_()
    assert {name: tensor.to_dense().tolist() for name, tensor in copies.items()} == expected
    copies["whole"].fill_(7)
    assert copies["view"].tolist() == [[7, 7], [7, 7]]


def test_sparse_buffers_move_to_another_device() -> None:
    buffers = {"graph": torch.eye(3).to_sparse(), "mean": torch.ones(2)}
    copies = copied(buffers, torch.device("meta"))
    assert {tensor.device.type for tensor in copies.values()} == {"meta"}
    assert copies["graph"].layout == torch.sparse_coo
    assert copies["graph"].shape == (3, 3)


class OddBuffers(nn.Module):
    mask: Tensor
    cache: Tensor
    later: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2).t())
        self.register_buffer("mask", torch.ones(2, dtype=torch.bool))
        self.register_buffer("cache", torch.ones(2), persistent=False)
        self.register_buffer("mean", torch.ones(2, dtype=torch.float64))
        self.register_buffer("later", None)


def test_only_persistent_floating_point_buffers_are_statistics() -> None:
    flat = FlatModel(OddBuffers())
    flat.set_statistics(torch.tensor([9.0, 8.0]))
    tensors = dict(flat.module.named_buffers())
    assert tensors["mean"].tolist() == flat.statistics().tolist() == [9, 8]
    assert (tensors["mean"].dtype, flat.statistics().dtype) == (torch.float64, torch.float32)
    assert tensors["cache"].tolist() == [1, 1]
    assert tensors["mask"].tolist() == [True, True]


def test_buffers_can_be_exchanged() -> None:
    module = OddBuffers()
    flat = FlatModel(module)
    before = copy.deepcopy(flat.buffers())
    assert set(before) == {"mask", "cache", "mean"}
    module.cache = torch.tensor([1.0, 2.0, 3.0])  # another shape
    module.later = torch.tensor(4)
    module.mask[0] = False
    after = flat.buffers()
    flat.set_buffers(before)
    assert set(flat.buffers()) == {"mask", "cache", "mean"}
    assert module.cache.tolist() == [1, 1]
    assert module.mask.tolist() == [True, True]
    flat.set_buffers(after)
    assert (module.cache.tolist(), module.later.item()) == ([1, 2, 3], 4)
    assert module.mask.tolist() == [False, True]


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"parameter 0\.weight is torch\.float64"):
        FlatModel(nn.Sequential(nn.Linear(2, 2)).double())


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no trainable parameter"):
        FlatModel(nn.ReLU())
    with pytest.raises(ValueError, match="no trainable parameter"):
        FlatModel(nn.Linear(2, 2).requires_grad_(False))


def test_gradients_that_a_loss_puts_elsewhere_are_fetched() -> None:
    module = nn.Linear(3, 2)
    flat = FlatModel(module)
    module.zero_grad()  # sets .grad to None
    module(torch.ones(1, 3)).sum().backward()
    assert flat.collect_gradients().tolist() == [1.0] * 8
    assert module.weight.grad is not None
    assert module.weight.grad.data_ptr() == flat.gradients.data_ptr()
    module.zero_grad()
    assert flat.collect_gradients().tolist() == [0.0] * 8


def test_cleared_gradients_are_made_anew() -> None:
    flat = FlatModel(network())
    loss(flat.module).backward()  # type: ignore[no-untyped-call]
    once = flat.collect_gradients().clone()
    for times in (1, 2):
        flat.clear_gradients()
        for _ in range(times):
            loss(flat.module).backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(flat.collect_gradients(), times * once)
    for layer, parameter in zip(flat.layers, flat.module.parameters(), strict=True):
        assert parameter.grad is not None
        assert parameter.grad.data_ptr() == flat.gradients[layer.start :].data_ptr()
    flat.clear_gradients()
    assert not flat.collect_gradients().any()


def test_a_parameter_without_a_gradient_has_zeros_and_one_used_twice_the_sum() -> None:
    module = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)])
    flat = FlatModel(module)
    flat.gradients.fill_(9)
    for uses in (1, 2):
        flat.clear_gradients()
        torch.stack([module[0](torch.ones(1, 2)) for _ in range(uses)]).sum().backward()  # type: ignore[no-untyped-call]
        assert flat.collect_gradients().tolist() == [uses] * 4 + [0, 0]


def test_sparse_gradients_are_collected() -> None:
    module = nn.Embedding(4, 2, sparse=True)
    flat = FlatModel(module)
    for _ in range(2):
        flat.clear_gradients()
        module(torch.tensor([3, 1, 3])).sum().backward()
        assert flat.collect_gradients().tolist() == [0, 0, 1, 1, 0, 0, 2, 2]
