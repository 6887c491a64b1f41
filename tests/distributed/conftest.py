"""Tests over several ranks use the tiny models and the tiny chain of their neighbours."""

import sys
from pathlib import Path

for neighbour in ("generation", "training"):
    sys.path.append(str(Path(__file__).parents[1] / neighbour))
