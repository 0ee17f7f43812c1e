"""Log a run to Weights & Biases, in files without an account: ``python examples/wandb_run.py``.

Needs ``pip install 'mlmc-ray[tracking]'``. ``wandb sync`` sends the files later.
"""

from pathlib import Path

from launch import Session
from launch.callbacks import WandB

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def main() -> None:
    """Train; with ``mode="online"``, after ``wandb login``, the run can be watched as it goes."""
    tracker = WandB(project="digits", mode="offline")
    overrides = ["engine=inline", "rounds=100"]
    with Session(CONFIG, overrides=overrides, callbacks=[tracker]) as session:
        session.run()
    print("wandb sync wandb/offline-run-*")


if __name__ == "__main__":
    main()
