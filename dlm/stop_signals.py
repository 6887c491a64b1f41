"""How a cluster asks the processes of a job to stop."""

import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Slurm's ``--signal`` sends the second one by custom."""
