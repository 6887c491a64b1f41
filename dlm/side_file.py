"""A small file beside the work, on which nothing depends."""

import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_side_file(path: Path, values: Any) -> None:
    """Write JSON in one rename, so that it is the old or the new one. Where it cannot be written (a
    full disk, a place that is not ours) nothing happens: what depends on the disk says so."""
    # Threads and hosts of one run may write it at the same time.
    own = f"{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    partial = path.with_name(f".{path.name}.{own}.tmp")
    try:
        partial.write_text(json.dumps(values), encoding="utf-8")
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
