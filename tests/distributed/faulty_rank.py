"""``dlm`` with a fault in the network of rank 1: FAULT=error or FAULT=killed.

The file FAULT_TIME is written when it happens.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from dlm.cli import main
from dlm.generation import diffusion
from dlm.process import process_rank


def fail(*arguments: Any, **options: Any) -> None:
    Path(os.environ["FAULT_TIME"]).touch()
    if os.environ["FAULT"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("out of memory")


if __name__ == "__main__":
    if process_rank() == 1:
        diffusion.denoise_masks = fail  # type: ignore[assignment]
    sys.exit(main())
