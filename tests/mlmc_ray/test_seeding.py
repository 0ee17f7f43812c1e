from contextlib import nullcontext

import pytest
import torch

from mlmc_ray.seeding import drawing, generator_for, seed_for


def draws(generator: torch.Generator) -> list[float]:
    return [float(value) for value in torch.rand(4, generator=generator)]


def test_a_name_gives_the_same_draws() -> None:
    assert draws(generator_for(1, 2, 3, "data")) == draws(generator_for(1, 2, 3, "data"))


def test_every_part_of_a_name_matters() -> None:
    names: list[tuple[int | str, ...]] = [
        (1, 2, 3, "data"),
        (2, 2, 3, "data"),
        (1, 3, 3, "data"),
        (1, 2, 4, "data"),
        (1, 2, 3, "model"),
        (1, 2, 3),
        (1, 3, 2, "data"),
        (1, 23, "data"),
        (1, "2", 3, "data"),
        (1, "2/3", "data"),
        (1, "2'/'3", "data"),
    ]
    seeds = [seed_for(*name) for name in names]  # type: ignore[arg-type]
    assert len(set(seeds)) == len(names)


def test_seeds_are_63_bits_that_runs_can_rely_on() -> None:
    """A change here would change every run that is repeated or resumed."""
    assert seed_for(0) == 4246866556266386882
    assert seed_for(0, 1, 2, "compress") == 9169422784746844003
    assert seed_for(-1, "parameters") == 2985311751193092145
    assert all(0 <= seed_for(seed) < 1 << 63 for seed in range(1000))


def test_the_global_generator_is_not_touched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    draws(generator_for(7, "data"))
    assert torch.equal(torch.rand(3), expected)


def test_generators_are_fresh_each_time() -> None:
    first = generator_for(1, "data")
    start = draws(first)
    assert draws(first) != start
    assert draws(generator_for(1, "data")) == start


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_what_is_drawn_on_a_gpu_is_seeded_too() -> None:
    gpu = torch.device("cuda")
    drawn = []
    for seed in (1, 2):
        torch.cuda.manual_seed(seed)
        before = torch.cuda.get_rng_state()
        with drawing(5, gpu):
            drawn.append(torch.rand(4, device=gpu))
        assert torch.equal(torch.cuda.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])


def test_what_is_drawn_for_a_gpu_seeds_it_and_puts_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on machines without one: torch.cuda is asked in this order."""
    gpu, state = torch.device("cuda", 0), torch.zeros(1)
    asked: list[object] = []

    def get(device: torch.device) -> torch.Tensor:
        asked.append(device)
        return state

    monkeypatch.setattr(torch.cuda, "get_rng_state", get)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *given: asked.append(given))
    monkeypatch.setattr(torch.cuda, "manual_seed", asked.append)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    with drawing(5, gpu):
        asked.append("drawn")
    assert asked == [gpu, 5, "drawn", (state, gpu)]
