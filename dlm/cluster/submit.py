"""Write the files of a submission and queue its jobs; all of them, or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dlm.cluster.commands import Refused, call
from dlm.cluster.jobs import SLURM_FOLDER, ClusterJob, Submission
from dlm.cluster.kubernetes import job_name, jobset_name, manifests_yaml, render_manifests
from dlm.cluster.record import JobRecord, RecordedJob, now
from dlm.cluster.slurm import render_script, script_name
from dlm.errors import UserError
from dlm.files import write_text


def dry_run_text(submission: Submission, recipes: Mapping[str, str]) -> str:
    """Everything that would be written and called; ``recipes`` as in :func:`submit`."""
    if submission.cluster.scheduler == "kubernetes":
        manifests = render_manifests(submission, recipes, now())
        return manifests_yaml([item for pair in manifests.values() for item in pair]).rstrip()
    parts = []
    for job in submission.jobs:
        waits = _dependency(job, {other.stage: f"<{other.stage}>" for other in submission.jobs},
                            submission.jobs)  # fmt: skip
        path = submission.run_dir / SLURM_FOLDER / script_name(job)
        command = " ".join(["sbatch", *waits, str(path)])
        parts.append(f"### {command}\n{render_script(submission, job)}")
    return "\n".join(parts).rstrip()


def submit(submission: Submission, recipes: Mapping[str, str]) -> JobRecord:
    """Queue every job of the submission and record it in jobs.json.

    ``recipes``: cell -> its recipe, resolved; of an ordinary run under the empty name.

    Raises:
        UserError: The cluster's programs are missing here.
        Refused: The cluster takes a job not; what was queued before it is cancelled again.
    """
    if submission.cluster.scheduler == "kubernetes":
        return _submit_kubernetes(submission, recipes)
    return _submit_slurm(submission, recipes)


def _submit_slurm(submission: Submission, recipes: Mapping[str, str]) -> JobRecord:
    folder = submission.run_dir / SLURM_FOLDER
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    for cell, text in recipes.items():
        write_text(submission.recipe_file(cell), text)
    for job in submission.jobs:
        write_text(folder / script_name(job), render_script(submission, job))
    numbers: dict[str, str] = {}
    submitted = now()
    for job in submission.jobs:
        waits = _dependency(job, numbers, submission.jobs)
        script = folder / script_name(job)
        try:
            said = call("sbatch", "--parsable", *waits, str(script))
        except (UserError, Refused) as error:
            raise type(error)(
                f"stage {job.stage} was not queued: {error}{_undo(numbers)}"
            ) from error
        numbers[job.stage] = said.strip().partition(";")[0]
        # After every one of them: an interrupted submission leaves no job that nobody knows.
        record = _slurm_record(submission, submitted, numbers)
        record.write(submission.run_dir)
    return record


def _slurm_record(submission: Submission, submitted: str, numbers: dict[str, str]) -> JobRecord:
    jobs = tuple(
        RecordedJob(job.stage, numbers[job.stage], f"{SLURM_FOLDER}/{script_name(job)}", job.cells)
        for job in submission.jobs
        if job.stage in numbers
    )
    return JobRecord("slurm", submitted, jobs, submission.cells)


def _dependency(
    job: ClusterJob, numbers: dict[str, str], jobs: Sequence[ClusterJob]
) -> list[str]:  # fmt: skip
    """sbatch's options: after all that is needed has ended well; cell by cell where that fits."""
    needed = [other for other in jobs if other.stage in job.needs and other.stage in numbers]
    if not needed:
        return []
    # aftercorr pairs the tasks of two arrays: a cell that fails holds up no other.
    cell_by_cell = job.cells and all(other.cells == job.cells for other in needed)
    kind = "aftercorr" if cell_by_cell else "afterok"
    listed = ":".join(numbers[other.stage] for other in needed)
    return [f"--dependency={kind}:{listed}", "--kill-on-invalid-dep=yes"]


def _undo(numbers: dict[str, str]) -> str:
    """Cancel the beginning of a chain whose end was refused; says so."""
    if not numbers:
        return ""
    listed = ", ".join(f"{number} ({stage})" for stage, number in numbers.items())
    try:
        call("scancel", *reversed(numbers.values()))
    except (UserError, Refused) as error:
        return f"\nThe jobs before it are still queued: {listed}, because {error}"
    return f"\nThe jobs before it were cancelled again: {listed}"


def _submit_kubernetes(submission: Submission, recipes: Mapping[str, str]) -> JobRecord:
    submitted = now()
    manifests = render_manifests(submission, recipes, submitted)
    text = manifests_yaml([item for pair in manifests.values() for item in pair])
    file = Path("kubernetes") / "jobset.yaml"
    write_text(submission.run_dir / file, text)
    jobs = []
    for cell in recipes:
        jobset = jobset_name(submission, cell, submitted)
        jobs += [
            RecordedJob(
                job.stage, f"{jobset}-{job_name(job)}-0", str(file),
                (cell,) if cell else (), jobset,
            )
            for job in submission.jobs
            if not cell or cell in job.cells
        ]  # fmt: skip
    namespace = submission.cluster.kubernetes.namespace
    record = JobRecord("kubernetes", submitted, tuple(jobs), submission.cells, namespace)
    call("kubectl", "apply", f"--filename={submission.run_dir / file}")
    record.write(submission.run_dir)
    return record
