"""When this process began. Imported before anything that takes long to import."""

import time

STARTED_S = time.monotonic()
"""Seconds of the monotonic clock: setting the machine's clock does not move it."""
