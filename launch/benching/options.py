"""The options of ``mlmc-ray bench codecs``, checked before anything is measured."""

from pathlib import Path
from typing import Any

from mlmc_ray.errors import ConfigError


def check_vector_options(dim: int | None, kind: str, problem: str | None) -> None:
    """Refuse an unknown kind, and options that have no effect on it.

    Raises:
        ConfigError: quotes the option and says what would do.
    """
    kinds = ("gaussian", "laplace", "log-normal", "gradient")
    if kind not in kinds:
        raise ConfigError(f"--kind {kind}: known are {list(kinds)}")
    if kind == "gradient" and dim is not None:
        raise ConfigError(
            f"--dim {dim}: a gradient has as many values as the model of --problem has "
            "parameters: leave --dim out"
        )
    if kind != "gradient" and problem is not None:
        raise ConfigError(
            f"--problem {problem}: has no effect on --kind {kind}: give --kind gradient, or leave "
            "--problem out"
        )


def check_outputs(json_path: Path | None, plot_path: Path | None) -> None:
    """Refuse files that cannot be written, before anything is measured.

    Raises:
        ConfigError: names the path and the reason.
    """
    from launch.benching.rate_plot import FORMATS
    from launch.run_directory import writing

    if plot_path is not None and plot_path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot {plot_path}: give a name that ends in one of {list(FORMATS)}")
    for path in (json_path, plot_path):
        if path is not None:
            existed = path.exists()
            with writing(path), path.open("ab"):
                pass
            if not existed:
                path.unlink()


def yaml_of(text: str, option: str) -> Any:
    """Return what an option's text says in YAML.

    Raises:
        ConfigError: it is not YAML; quotes it.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{option} {text}: is not YAML") from error


def check_device(device: str) -> None:
    """Refuse a device that is unknown or not there.

    Raises:
        ConfigError: quotes the device and says what would do.
    """
    import torch

    if device not in ("cpu", "cuda"):
        raise ConfigError(f"--device {device}: known are ['cpu', 'cuda']")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch finds no CUDA device; leave the option out to use the CPU, or "
            "install a torch with CUDA on a machine with a GPU"
        )
