"""What one stage hands to the next is read whole and compared before anything starts from it."""

from dlm.errors import StageFailed
from dlm.recipe.manifest import read_manifest, verify_exports
from dlm.training.job import StageJob


def verify_needed(job: StageJob, verified: set[str]) -> None:
    """Compare the exports that a stage starts from with their hashes; each one once a run.

    Raises:
        StageFailed: A file was changed, damaged or removed.
    """
    for name in (name for name in job.exports if name not in verified):
        directory = job.exports[name].parent
        manifest = read_manifest(directory)
        problems = verify_exports(directory, manifest) if manifest else ["its manifest is missing"]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise StageFailed(
                f"stage {job.name} cannot start from stage {name}: in {directory}, "
                f"{problems[0]}{more}. Put the file back as it was written, or make the stage anew "
                f"with --force {name}"
            )
        verified.add(name)
