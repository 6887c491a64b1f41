"""jobs.json: which jobs of the cluster work on a run."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dlm.errors import UserError
from dlm.files import write_json

RECORD = "jobs.json"


@dataclass(frozen=True)
class RecordedJob:
    """One job as it was queued."""

    stage: str
    job: str
    """Slurm: its number. Kubernetes: the name of its job."""
    file: str
    """The script or manifest, relative to the run directory."""
    cells: tuple[str, ...] = ()
    """Those of a Slurm array, or the one of a JobSet; empty for an ordinary run."""
    jobset: str | None = None
    """Kubernetes: what it is part of."""


@dataclass(frozen=True)
class JobRecord:
    """The jobs of the last ``dlm submit`` of a run."""

    scheduler: Literal["slurm", "kubernetes"]
    submitted: str
    jobs: tuple[RecordedJob, ...]
    cells: tuple[str, ...] = ()
    """Of a sweep: each has a run directory of its own, called so."""
    namespace: str | None = None
    """Kubernetes."""

    @property
    def jobsets(self) -> list[str]:
        """Kubernetes: the JobSets, each once."""
        return list(dict.fromkeys(job.jobset for job in self.jobs if job.jobset))

    def write(self, run_dir: Path) -> None:
        """Replace the record of the run."""
        write_json(run_dir / RECORD, asdict(self))


def read_record(run_dir: Path) -> JobRecord | None:
    """The record of a run, or None for a run that was never submitted.

    Raises:
        UserError: It is damaged.
    """
    path = run_dir / RECORD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        jobs = tuple(
            RecordedJob(**{**job, "cells": tuple(job["cells"])}) for job in values.pop("jobs")
        )
        return JobRecord(**{**values, "jobs": jobs, "cells": tuple(values["cells"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): look for jobs of this run with the cluster's own "
            "commands, then delete the file"
        ) from error


def now() -> str:
    """The time, as it is recorded."""
    return datetime.now(UTC).isoformat(timespec="seconds")
