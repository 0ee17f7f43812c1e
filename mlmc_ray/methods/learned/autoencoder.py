"""The autoencoder of learned gradient compression: one code for what the workers have in common."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from mlmc_ray.flat import FlatModel
from mlmc_ray.seeding import drawing

_STRIDE = 16  # of the code: four layers of stride 2
_CHANNELS = (1, 64, 128, 64, 4)


class Autoencoder:
    """Encodes the values at the sent positions into a quarter of the numbers, and decodes them.

    The encoder is four one-dimensional convolutions of width 3 and stride 2, with 64, 128, 64 and 4
    channels and ReLU in between; the decoder mirrors it with transposed convolutions, and its last
    layer mixes in the worker's own innovation. All vectors have values in [-1, 1].

    Args:
        length: of the vectors; inside they are padded with zeros to a multiple of 16.
        seed: of the first weights.

    References:
        Abrahamyan et al., 2021, arXiv:2103.08870. The numbers of layers and channels are our own.
    """

    def __init__(self, length: int, seed: int) -> None:
        self._length = length
        self._padded = -(-length // _STRIDE) * _STRIDE
        with drawing(seed):
            self._networks = nn.ModuleDict({"encoder": _encoder(), "decoder": _decoder()})
            self._networks["mixer"] = nn.Conv1d(2, 1, 3, padding=1)
        self._flat = FlatModel(self._networks)

    @property
    def weights(self) -> Tensor:
        """All weights as one vector, float32; the autoencoder's own memory."""
        return self._flat.parameters

    @property
    def code_length(self) -> int:
        """Numbers in a code."""
        return self._padded // _STRIDE * _CHANNELS[-1]

    def encode(self, values: Tensor) -> Tensor:
        """Return the codes of some vectors.

        Args:
            values: shape (n, length).

        Returns:
            shape (n, code length), a quarter of the padded length.
        """
        padded = nn.functional.pad(values, (0, self._padded - self._length))
        code: Tensor = self._networks["encoder"](padded[:, None])
        return code.flatten(1)

    def decode(self, code: Tensor, innovations: Tensor) -> Tensor:
        """Return the vectors that one code stands for, each with an innovation of its own.

        Args:
            code: shape (code length,).
            innovations: shape (n, length); zero where nothing is known.

        Returns:
            shape (n, length).
        """
        common = self._networks["decoder"](code.view(1, _CHANNELS[-1], -1))
        padded = nn.functional.pad(innovations, (0, self._padded - self._length))
        both = torch.stack([common.flatten().expand_as(padded), padded], dim=1)
        decoded: Tensor = self._networks["mixer"](both)
        return decoded.flatten(1)[:, : self._length]


class Trainer:
    """Trains an autoencoder with Adam on what the workers send.

    Args:
        autoencoder: trained in place.
        learning_rate: of Adam.
        similarity: weight of the second loss, which pulls the codes of the workers together.
    """

    def __init__(self, autoencoder: Autoencoder, learning_rate: float, similarity: float) -> None:
        self._autoencoder = autoencoder
        self._similarity = similarity
        self._parameter = nn.Parameter(autoencoder.weights)
        self._optimizer = torch.optim.Adam([self._parameter], lr=learning_rate)

    def step(self, values: Tensor, innovations: Tensor, leader: int) -> float:
        """Take a step on the vectors of a round and return the loss.

        The loss is the mean over workers i of |D(E(z_leader), innovation_i) - z_i|^2, plus
        ``similarity`` times the mean over pairs of |E(z_i) - E(z_i')|^2.

        Args:
            values: z, shape (workers, length), in [-1, 1].
            innovations: shape (workers, length).
            leader: whose code is used.
        """
        flat = self._autoencoder._flat
        flat.clear_gradients()
        codes = self._autoencoder.encode(values)
        decoded = self._autoencoder.decode(codes[leader], innovations)
        error = (decoded - values).square().sum(dim=1).mean()
        spread = 2 * (codes - codes.mean(dim=0)).square().sum(dim=1).mean()  # mean over all pairs
        loss = error + self._similarity * spread
        loss.backward()  # type: ignore[no-untyped-call]
        self._parameter.grad = flat.collect_gradients()
        self._optimizer.step()
        return loss.item()

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the weights and of Adam's moments."""
        state = {"weights": self._autoencoder.weights.clone()}
        moments = self._optimizer.state[self._parameter]
        return state | {name: moments[name].clone() for name in moments}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""
        self._autoencoder.weights.copy_(state["weights"])
        moments = {name: tensor.clone() for name, tensor in state.items() if name != "weights"}
        if moments:
            self._optimizer.state[self._parameter] = moments


def num_weights() -> int:
    """Return how many weights an autoencoder has, whatever the length of its vectors."""
    return Autoencoder(_STRIDE, 0).weights.numel()


def _encoder() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(_CHANNELS):
        layers += [nn.Conv1d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _decoder() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(_CHANNELS[::-1]):
        layer = nn.ConvTranspose1d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
