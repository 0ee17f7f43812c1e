"""``python -m launch`` is ``mlmc-ray``."""

import sys

from launch.shadowing import shadowing_file

if message := shadowing_file():
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)

from launch.cli import main

main()
