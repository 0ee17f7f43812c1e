"""What exceptions say, made short."""

import pytest

from mlmc_ray.errors import first_sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Calls .item() here.\n  Do not. Never.", "Calls .item() here."),
        ("torch.func 2.5 fails, and no more", "torch.func 2.5 fails, and no more"),
        ("", ""),
        ("word " * 100, " ".join(["word"] * 39) + " ..."),
    ],
)
def test_a_first_sentence_is_never_cut_in_a_word(text: str, expected: str) -> None:
    assert first_sentence(ValueError(text)) == expected
    assert len(expected) <= 200
