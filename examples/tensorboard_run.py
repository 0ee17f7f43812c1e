"""Watch a run in TensorBoard: ``python examples/tensorboard_run.py``.

Needs ``pip install 'mlmc-ray[tracking]'``. Look at it, also while it goes on, with
``tensorboard --logdir runs/tensorboard``.
"""

from pathlib import Path

from launch import Session
from launch.callbacks import TensorBoard

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def main() -> None:
    """Train, uncompressed and compressed, into one directory of TensorBoard's."""
    for name, settings in (("compressed", []), ("uncompressed", ["method=sgd"])):
        overrides = [f"name={name}", "engine=inline", "rounds=100", *settings]
        with Session(CONFIG, overrides=overrides, callbacks=[TensorBoard()]) as session:
            session.run()
    print("tensorboard --logdir runs/tensorboard")


if __name__ == "__main__":
    main()
