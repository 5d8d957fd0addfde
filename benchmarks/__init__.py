"""Benchmarks: minnet beside numpy, scipy, torch, jax and scikit-learn, in one run. See README.md in this folder."""

import sys
from pathlib import Path

_CLONE = str(Path(__file__).parents[1])
if sys.path and sys.path[0] in ("", _CLONE):  # python -m benchmarks.x: an installed minnet goes before the clone's
    sys.path.append(sys.path.pop(0))
