"""Sentences of movie reviews, favourable or not, told apart by a small BERT that is fine-tuned.

The sentences come with mlmc_ray; nothing is downloaded unless asked for. The data and the networks
are described, with their sources, in ``text_files`` and ``text_networks``.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.compressors.base import check_whole
from mlmc_ray.problems.base import TensorShard, check_concentration, split_by_label, split_evenly
from mlmc_ray.problems.text_files import Sentences, rated_snippets, sst2
from mlmc_ray.problems.text_networks import MINILM, classifier, lengths, tokenise
from mlmc_ray.seeding import generator_for

Data = Literal["snippets", "sst-2"]
Part = tuple[Tensor, Tensor]
"""Tokens, shape (sentences, longest), int64, and labels, shape (sentences,), int64."""

_HELD_OUT = 0.15
_FEWEST_TOKENS, _MOST_TOKENS = 3, 512
_EVALUATED_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class MovieReviews:
    """Tell favourable sentences of movie reviews from the others, starting from a trained network.

    Args:
        data: "snippets": 10,568 sentences from rottentomatoes.com, labelled by the sign of their
            mean rating by twenty people, 15% of which are held out as test examples, always the
            same; they come with mlmc_ray; or "sst-2": the Stanford Sentiment Treebank, 67,349
            phrases to train on and 872 test examples.
        network: "minilm", a BERT of six layers (22,566,146 parameters with the head) that is
            installed with the extra ``text``; or any network of the library transformers, by its
            directory or its name on the Hugging Face hub. Its head for two classes is always new.
        layers: keep only the first so many layers of the network, which is quicker; by default
            all. It needs a network that keeps them where BERT and RoBERTa do.
        train_embeddings: train the embeddings of words, positions and types too, with their
            normalisation; otherwise they stay as they are, and no message holds them.
        data_dir: holds the .tsv or .parquet files of SST-2, on the machine of every process; by
            default they are looked for in the cache of the library datasets.
        alpha: deal both classes in proportions drawn from a Dirichlet law with this concentration,
            so that shards differ; by default shards are dealt uniformly.
        max_tokens: of a sentence, 3 to 512; the rest of a longer one is left out.
        test_examples: evaluate on the first so many test examples; by default on all.
        download: let transformers and datasets fetch what is not on this machine; otherwise it is
            an error.

    Raises:
        ValueError: a value is out of range, or ``data_dir`` is given with the snippets; quotes it.
    """

    data: Data = "snippets"
    network: str | Path = MINILM
    layers: int | None = None
    train_embeddings: bool = True
    data_dir: str | Path | None = None
    alpha: float | None = None
    max_tokens: int = 64
    test_examples: int | None = None
    download: bool = False

    def __post_init__(self) -> None:
        if self.data not in get_args(Data):
            raise ValueError(f"data is {self.data!r}: give one of {list(get_args(Data))}")
        if self.alpha is not None:
            check_concentration(self.alpha)
        check_whole("max_tokens", self.max_tokens, _FEWEST_TOKENS, _MOST_TOKENS)
        if self.test_examples is not None:
            check_whole("test_examples", self.test_examples, 1, advice=", or nothing for all")
        if not isinstance(self.network, str | Path) or not str(self.network):
            raise ValueError(
                f"network is {self.network!r}: give {MINILM!r}, a directory, or a name on the hub"
            )
        if self.layers is not None:
            check_whole("layers", self.layers, 1, advice=", or nothing for all")
        if not isinstance(self.data_dir, str | Path | None):
            raise ValueError(f"data_dir is {self.data_dir!r}: give a path, or nothing")
        if self.data_dir is not None and self.data == "snippets":
            raise ValueError(
                f"data_dir is {str(self.data_dir)!r}, and data is 'snippets', which come with "
                "mlmc_ray: leave data_dir out; it is for data: sst-2"
            )
        for name in ("train_embeddings", "download"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} is {value!r}: give true or false")

    def model(self) -> nn.Module:
        """Load the network, with the dropout that it was made with; it needs no data."""
        return classifier(
            self.network,
            self.download,
            layers=self.layers,
            train_embeddings=self.train_embeddings,
        )

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross entropy."""
        tokens, labels = batch
        return functional.cross_entropy(model(tokens), labels)

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        """Deal the training sentences, uniformly or by label."""
        train, _ = self._parts()
        if self.alpha is None:
            return split_evenly(train, worker_id, num_workers, generator)
        return split_by_label(train, self.alpha, worker_id, num_workers, generator)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy and mean cross entropy on the first ``test_examples`` test sentences."""
        tokens, labels = (tensor[: self.test_examples] for tensor in self._parts()[1])
        order = lengths(tokens).argsort(stable=True)  # less padding
        correct, loss = 0, 0.0
        with torch.no_grad():
            for rows in torch.split(order, _EVALUATED_AT_ONCE):
                scores = model(tokens[rows])
                correct += int((scores.argmax(dim=1) == labels[rows]).sum())
                loss += float(functional.cross_entropy(scores, labels[rows], reduction="sum"))
        return {"accuracy": correct / len(labels), "loss": loss / len(labels)}

    def _parts(self) -> tuple[Part, Part]:
        return _parts(self.data, self.data_dir, self.network, self.max_tokens, self.download)


@lru_cache(maxsize=1)
def _parts(
    data: Data, data_dir: str | Path | None, network: str | Path, max_tokens: int, download: bool
) -> tuple[Part, Part]:
    """Return the training and the test sentences, tokenised."""
    if data == "snippets":
        whole = _tokenised(rated_snippets(), network, max_tokens, download)
        return _held_out(whole)
    train, test = sst2(data_dir, download)
    return (
        _tokenised(train, network, max_tokens, download),
        _tokenised(test, network, max_tokens, download),
    )


def _tokenised(sentences: Sentences, network: str | Path, max_tokens: int, download: bool) -> Part:
    tokens = tokenise(sentences.texts, network, max_tokens, download)
    return tokens, torch.tensor(sentences.labels)


def _held_out(whole: Part) -> tuple[Part, Part]:
    """Split sentences into those to train on and those held out, always alike."""
    tokens, labels = whole
    order = torch.randperm(len(labels), generator=generator_for(0, "held out"))
    test, train = order.tensor_split([round(_HELD_OUT * len(order))])
    return (tokens[train], labels[train]), (tokens[test], labels[test])
