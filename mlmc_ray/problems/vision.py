"""Images in classes, read from local files by torchvision; nothing is ever downloaded.

Sources: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747; A. Krizhevsky,
Learning Multiple Layers of Features from Tiny Images, 2009 (CIFAR-10 and CIFAR-100); the residual
network, and the augmentation: K. He et al., 2015, arXiv:1512.03385, section 4.2.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.problems.base import TensorShard, check_concentration, split_by_label, split_evenly
from mlmc_ray.problems.image_files import read, unpack

Network = Literal["perceptron", "cnn", "resnet18"]
Part = tuple[Tensor, Tensor]
"""Images, shape (examples, channels, side, side), uint8, and labels, shape (examples,), int64."""

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
_NUM_TEST = 10_000
_EVALUATED_AT_ONCE = 250
_MARGIN = 4  # of black pixels around an image that is cropped


@dataclass(frozen=True, kw_only=True, slots=True)
class _Images(ABC):
    """What the data sets share: the networks, the shards and the evaluation.

    Images stay bytes until a batch is needed, and are then normalised channel by channel with the
    mean and the standard deviation of the training images.
    """

    network: Network = "cnn"
    alpha: float | None = None
    test_examples: int = _NUM_TEST
    augment: bool = False

    classes: ClassVar[int] = 10
    channels: ClassVar[int]
    side: ClassVar[int]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]

    def __post_init__(self) -> None:
        if self.network not in get_args(Network):
            raise ValueError(f"network is {self.network!r}: give one of {list(get_args(Network))}")
        if self.alpha is not None:
            check_concentration(self.alpha)
        if not 1 <= self.test_examples <= _NUM_TEST:
            raise ValueError(f"test_examples is {self.test_examples!r}: give 1 to {_NUM_TEST}")
        if not isinstance(self.augment, bool):
            raise ValueError(f"augment is {self.augment!r}: give true or false")

    @abstractmethod
    def _parts(self) -> tuple[Part, Part]:
        """Return the training and the test examples."""

    def model(self) -> nn.Module:
        """Make the network; it needs no data."""
        if self.network == "perceptron":
            return _perceptron(self.channels * self.side**2, self.classes)
        if self.network == "cnn":
            return _cnn(self.channels, self.side, self.classes)
        return _resnet18(self.channels, self.classes)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross entropy; while training with ``augment``, on images that are changed at random."""
        images, labels = batch
        if self.augment and model.training:
            images = _augmented(images)
        return functional.cross_entropy(model(self._normalised(images)), labels)

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        """Deal the training images, uniformly or by label."""
        train, _ = self._parts()
        if self.alpha is None:
            return split_evenly(train, worker_id, num_workers, generator)
        return split_by_label(train, self.alpha, worker_id, num_workers, generator)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy and mean cross entropy on the first ``test_examples`` test images."""
        images, labels = (tensor[: self.test_examples] for tensor in self._parts()[1])
        correct, loss = 0, 0.0
        with torch.no_grad():
            for start in range(0, len(labels), _EVALUATED_AT_ONCE):
                some = slice(start, start + _EVALUATED_AT_ONCE)
                scores = model(self._normalised(images[some]))
                correct += int((scores.argmax(dim=1) == labels[some]).sum())
                loss += float(functional.cross_entropy(scores, labels[some], reduction="sum"))
        return {"accuracy": correct / len(labels), "loss": loss / len(labels)}

    def _normalised(self, images: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(values, device=images.device).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return (images / 255).sub_(mean).div_(std)


@dataclass(frozen=True, kw_only=True, slots=True)
class FashionMNIST(_Images):
    """Classify clothes: 60,000 training and 10,000 test images of 28 x 28 grey pixels.

    Args:
        network: "perceptron" (one hidden layer of 256; 203,530 parameters), "cnn" (two
            convolutions, two linear layers; 421,642) or "resnet18" (11,172,810).
        alpha: deal every class in proportions drawn from a Dirichlet law with this concentration,
            so that shards differ; by default shards are dealt uniformly.
        test_examples: evaluate on the first so many test images.
        augment: train on images that are moved by up to 4 pixels each way, black coming in at the
            edges, and mirrored half of the time.
        data_dir: holds the data as torchvision lays it out (``FashionMNIST/raw/``), on the machine
            of every process; by default the files of Debian's package dataset-fashion-mnist.
    """

    data_dir: str | Path | None = None

    channels: ClassVar[int] = 1
    side: ClassVar[int] = 28
    mean: ClassVar[tuple[float, ...]] = (0.2860,)
    std: ClassVar[tuple[float, ...]] = (0.3530,)

    def _parts(self) -> tuple[Part, Part]:
        return _fashion_mnist(self.data_dir)


@dataclass(frozen=True, kw_only=True, slots=True)
class CIFAR10(_Images):
    """Classify photographs: 50,000 training and 10,000 test images of 32 x 32 coloured pixels.

    Args:
        network: "perceptron" (one hidden layer of 256; 789,258 parameters), "cnn" (two
            convolutions, two linear layers; 545,098) or "resnet18" (11,173,962).
        alpha: see ``FashionMNIST``.
        test_examples: evaluate on the first so many test images.
        augment: see ``FashionMNIST``.
        data_dir: holds the data as torchvision lays it out (``cifar-10-batches-py/``), on the
            machine of every process.
    """

    data_dir: str | Path

    channels: ClassVar[int] = 3
    side: ClassVar[int] = 32
    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)

    def _parts(self) -> tuple[Part, Part]:
        return _photographs("CIFAR10", self.data_dir)


@dataclass(frozen=True, kw_only=True, slots=True)
class CIFAR100(_Images):
    """Classify photographs into 100 classes: otherwise like ``CIFAR10``, 500 images of each.

    Args:
        network: "perceptron" (one hidden layer of 256; 812,388 parameters), "cnn" (two
            convolutions, two linear layers; 556,708) or "resnet18" (11,220,132).
        alpha: see ``FashionMNIST``.
        test_examples: evaluate on the first so many test images.
        augment: see ``FashionMNIST``.
        data_dir: holds the data as torchvision lays it out (``cifar-100-python/``), on the machine
            of every process.
    """

    data_dir: str | Path

    classes: ClassVar[int] = 100
    channels: ClassVar[int] = 3
    side: ClassVar[int] = 32
    mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)

    def _parts(self) -> tuple[Part, Part]:
        return _photographs("CIFAR100", self.data_dir)


def _augmented(images: Tensor) -> Tensor:
    """Crop every image to its size, at random after padding, and mirror half of them.

    The draws are from torch's global generator of the CPU, the same wherever the images are.

    Args:
        images: shape (examples, channels, side, side); not modified.
    """
    num_images, channels, _, side = images.shape
    offsets = torch.randint(2 * _MARGIN + 1, (2, num_images, 1))
    mirrored = torch.randint(2, (num_images, 1)).bool()
    along = torch.arange(side)
    rows, columns = offsets[0] + along, offsets[1] + torch.where(mirrored, along.flip(0), along)
    picked = (
        torch.arange(num_images).view(-1, 1, 1, 1),
        torch.arange(channels).view(1, -1, 1, 1),
        rows.view(num_images, 1, side, 1),
        columns.view(num_images, 1, 1, side),
    )
    padded = functional.pad(images, (_MARGIN,) * 4)
    return padded[tuple(index.to(images.device) for index in picked)]


def _perceptron(num_pixels: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(num_pixels, 256), nn.ReLU(), nn.Linear(256, classes)
    )


def _cnn(channels: int, side: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (side // 4) ** 2, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def _resnet18(channels: int, classes: int) -> nn.Module:
    """torchvision's, with the usual stem for small images: 3 x 3, stride 1, no pooling."""
    from mlmc_ray.problems.torchvision_import import models  # takes seconds to import

    network: nn.Module = models.resnet18(num_classes=classes)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1, network.maxpool = stem, nn.Identity()
    return network


@lru_cache(maxsize=1)
def _fashion_mnist(data_dir: str | Path | None) -> tuple[Part, Part]:
    from mlmc_ray.problems.torchvision_import import datasets  # takes seconds to import

    if data_dir is not None:
        advice = ", or run 'apt install dataset-fashion-mnist' and leave data_dir out"
        train, test = read(datasets.FashionMNIST, data_dir, advice=advice)
    else:
        with TemporaryDirectory() as directory:
            unpack(datasets.FashionMNIST, DEBIAN_FASHION_MNIST, Path(directory))
            train, test = read(datasets.FashionMNIST, directory, packed=DEBIAN_FASHION_MNIST)
    return (train.data.unsqueeze(1), train.targets), (test.data.unsqueeze(1), test.targets)


@lru_cache(maxsize=1)
def _photographs(name: str, data_dir: str | Path) -> tuple[Part, Part]:
    from mlmc_ray.problems.torchvision_import import datasets  # takes seconds to import

    train, test = (
        (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in read(getattr(datasets, name), data_dir)
    )
    return train, test
