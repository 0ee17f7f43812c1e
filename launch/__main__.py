"""``python -m launch`` is ``mlmc-ray``."""

from launch.cli import main

main()
