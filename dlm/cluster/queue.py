"""How the jobs of a run stand in the queue, and taking them out of it."""

import json
from collections.abc import Mapping
from pathlib import Path

from dlm.cluster.commands import Refused, call
from dlm.cluster.record import RECORD, JobRecord, RecordedJob
from dlm.errors import RunInUse, UserError

UNKNOWN = "unknown"
_ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
          "TIMEOUT", "PREEMPTED", "REVOKED")  # fmt: skip


def queue_states(record: JobRecord) -> dict[str, list[str]]:
    """Job -> its states, one for every different state of its array; [unknown] for what neither
    the queue nor the accounts know."""
    if not record.jobs:
        return {}
    found = (
        _kubernetes_states(record) if record.scheduler == "kubernetes" else _slurm_states(record)
    )
    return {job.job: found.get(job.job) or [UNKNOWN] for job in record.jobs}


def active_jobs(record: JobRecord) -> list[RecordedJob]:
    """Jobs that are queued or running.

    Raises:
        UserError: The cluster's programs are missing here.
        Refused: The queue does not answer.
    """
    if record.scheduler == "kubernetes":
        found = _kubernetes_states(record, strict=True)
    else:
        found = _squeue(record)
    return [
        job
        for job in record.jobs
        if any(state.split()[0] not in _ENDED for state in found.get(job.job, ()))
    ]


def refuse_active(record: JobRecord, run_dir: Path) -> None:
    """Raise RunInUse while jobs of the run are queued or running."""
    try:
        active = active_jobs(record)
    except Refused as error:
        raise UserError(
            f"whether jobs of this run are still queued cannot be told: {error}\nTry again, or "
            f"delete {run_dir / RECORD} if you know that none is"
        ) from error
    if active:
        listed = ", ".join(f"{job.job} ({job.stage})" for job in active)
        raise RunInUse(
            f"{run_dir} has jobs in the queue already: {listed}. Wait until they end "
            f"(dlm status {run_dir}), or take them out first: dlm cancel {run_dir}"
        )


def cancel_jobs(record: JobRecord) -> list[RecordedJob]:
    """Cancel what is queued or running, the last stage first; gives what was cancelled."""
    active = active_jobs(record)
    if record.scheduler == "kubernetes":
        if active:
            call("kubectl", "delete", "jobset", f"--namespace={record.namespace}", *record.jobsets)
    elif active:
        # In one call: nothing that waits is started between two.
        call("scancel", *(job.job for job in reversed(active)))
    return active


def states_by_stage(record: JobRecord, cell: str | None = None) -> dict[str, str]:
    """Stage -> ``RUNNING (job 12)``, for the run, or for one cell of a sweep."""
    states = queue_states(record)
    shown = {}
    for job in record.jobs:
        if cell is None or cell in job.cells:
            shown[job.stage] = f"{', '.join(states[job.job])} (job {job.job})"
    return shown


def _slurm_states(record: JobRecord) -> Mapping[str, list[str]]:
    try:
        found = _squeue(record)
    except (UserError, Refused):
        found = {}
    missing = [job.job for job in record.jobs if job.job not in found]
    return found | _sacct(missing) if missing else found


def _squeue(record: JobRecord) -> dict[str, list[str]]:
    """What the queue still knows: every job that has not ended, and some that have."""
    # Asked by name of the job, squeue refuses altogether if one of them is forgotten.
    text = call("squeue", "--me", "--noheader", "--states=all", "--format=%F|%T|%r")
    wanted = {job.job for job in record.jobs}
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        job, state, reason = line.strip().split("|")
        if job in wanted:
            waits = state == "PENDING" and reason != "None"
            _add(found, job, f"{state} ({reason})" if waits else state)
    return found


def _sacct(jobs: list[str]) -> dict[str, list[str]]:
    try:
        text = call(
            "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State",
            f"--jobs={','.join(jobs)}",
        )  # fmt: skip
    except (UserError, Refused):  # many clusters keep no accounts
        return {}
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        job, _, state = line.partition("|")
        _add(found, job.partition("_")[0], state.split()[0] if state else UNKNOWN)
    return found


def _kubernetes_states(record: JobRecord, *, strict: bool = False) -> dict[str, list[str]]:
    names = ",".join(record.jobsets)
    try:
        listed = json.loads(
            call("kubectl", "get", "jobs", f"--namespace={record.namespace}", "--output=json",
                 f"--selector=jobset.sigs.k8s.io/jobset-name in ({names})"),
        )  # fmt: skip
        jobsets = json.loads(
            call("kubectl", "get", "jobsets", f"--namespace={record.namespace}", "--output=json")
        )
    except (UserError, Refused):
        if strict:
            raise
        return {}
    ours = {item["metadata"]["name"]: item for item in jobsets["items"]}
    ended = {
        name
        for name in record.jobsets
        if name not in ours or (ours[name].get("status") or {}).get("terminalState")
    }
    states = {}
    for item in listed["items"]:
        status = item.get("status") or {}
        true = [c["type"] for c in status.get("conditions") or () if c.get("status") == "True"]
        state = "RUNNING" if status.get("active") else "PENDING"
        state = "COMPLETED" if "Complete" in true else "FAILED" if "Failed" in true else state
        states[item["metadata"]["name"]] = [state]
    for job in record.jobs:
        # A job is made when the one before it is complete.
        states.setdefault(job.job, ["CANCELLED"] if job.jobset in ended else ["PENDING"])
    return states


def _add(found: dict[str, list[str]], job: str, state: str) -> None:
    states = found.setdefault(job, [])
    if state not in states:
        states.append(state)
