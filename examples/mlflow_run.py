"""Log a run to MLflow, in a file without a server: ``python examples/mlflow_run.py``.

Needs ``pip install 'mlmc-ray[tracking]'``. Look at it with
``mlflow ui --backend-store-uri sqlite:///mlflow.db``.
"""

from pathlib import Path

from launch import Session
from launch.callbacks import MLflow

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def main() -> None:
    """Train; a ``tracking_uri`` of ``http://HOST:5000`` would go to a server instead."""
    tracker = MLflow(experiment="digits", tracking_uri="sqlite:///mlflow.db")
    overrides = ["engine=inline", "rounds=100"]
    with Session(CONFIG, overrides=overrides, callbacks=[tracker]) as session:
        session.run()
    print("mlflow ui --backend-store-uri sqlite:///mlflow.db")


if __name__ == "__main__":
    main()
