"""Programs of the cluster, called once and explained when they are missing or refuse."""

import subprocess
from collections.abc import Sequence

from dlm.errors import DlmError, UserError

TIMEOUT_S = 120
_REMEDY = {
    "kubectl": "install it and give it access to the cluster (kubectl config), or write the "
    "manifests with --dry-run and apply them elsewhere",
}
_SLURM_REMEDY = (
    "run dlm on a login node of the cluster (or load its Slurm module); --dry-run shows the "
    "scripts without it"
)


class Refused(DlmError):
    """A program of the cluster refused; the message is its own."""

    exit_code = 3


def call(*command: str, program_input: str | None = None) -> str:
    """Standard output of a command.

    Raises:
        UserError: It is not installed here.
        Refused: It fails or does not answer.
    """
    try:
        done = subprocess.run(
            command, input=program_input, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except FileNotFoundError as error:
        remedy = _REMEDY.get(command[0], _SLURM_REMEDY)
        raise UserError(f"{command[0]} is not installed here: {remedy}") from error
    except subprocess.TimeoutExpired as error:
        raise Refused(
            f"{command[0]} did not answer within {TIMEOUT_S} s: try again later"
        ) from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise Refused(f"{_shown(command)}: {said}")
    return done.stdout


def _shown(command: Sequence[str]) -> str:
    return " ".join(command[:3]) + (" ..." if len(command) > 3 else "")
