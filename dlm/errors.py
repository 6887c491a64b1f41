"""Errors with a remedy and the exit code that each stands for (the command-line contract)."""


class DlmError(Exception):
    """A failure that is explained to the user in one message, without a traceback."""

    exit_code = 3


class UserError(DlmError):
    """The user's configuration or data is wrong; the message names the place and the remedy."""

    exit_code = 2


class StageFailed(DlmError):
    """A stage stopped for a reason that is not the user's configuration or data."""

    exit_code = 3


class RunInUse(DlmError):
    """Another live process works on the run directory."""

    exit_code = 4


class Preempted(DlmError):
    """The stage was asked to stop and has saved its state: run the same command again."""

    exit_code = 75
