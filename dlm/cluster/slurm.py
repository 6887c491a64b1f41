"""Slurm: a stage as a batch script that a person can read, edit and give to sbatch again."""

import sys
from shlex import quote

from dlm.cluster.jobs import SLURM_FOLDER, ClusterJob, Submission
from dlm.quoting import on_one_line, sbatch_path, sbatch_value

PORTS_FROM, PORTS = 20_000, 10_000
"""torchrun meets on a port of this range, chosen by the number of the job."""
STRAGGLERS_S = 120
"""srun's patience with the other processes once the first has ended."""

_SCRIPT = """\
#!/bin/bash
{options}

# Stage {stage} of {recipe}, written by `dlm submit`. Read it, edit it, give it to sbatch again.
# It calls `dlm run --only {stage}`; what is done already is skipped, what is begun is continued.

cd {folder} || exit 2
{setup}
# Rank 0 leaves its exit code here: what launches it gives another rank's, or its own.
export DLM_EXIT_CODE_FILE={slurm}/.exit-code-$SLURM_JOB_ID
rm -f "$DLM_EXIT_CODE_FILE"
{prepare}
{launch} &
launcher=$!

# Slurm tells this script alone that the time is up (--signal=B:) or that the job has to make room:
# every process is to save its state and stop.
trap 'echo "dlm: asked to stop"; kill -USR1 "$launcher"' USR1 TERM
while true; do  # `wait` comes back early when a signal arrives
    wait "$launcher"
    code=$?
    kill -0 "$launcher" 2>/dev/null || break
done
trap - USR1 TERM
if [[ -s $DLM_EXIT_CODE_FILE ]]; then code=$(<"$DLM_EXIT_CODE_FILE"); fi
rm -f "$DLM_EXIT_CODE_FILE"

# 0: done. 2: the configuration or the data, which a second attempt would not change.
if [[ $code == 0 || $code == 2 ]]; then exit "$code"; fi

# 75: its state is saved, and it goes on when it gets nodes again. Any other failure may be that of
# a node or a GPU.
failures={slurm}/.failures-$SLURM_JOB_ID
if [[ $code == 75 ]]; then
    again=$(( ${{SLURM_RESTART_COUNT:-0}} < {max_requeues} )) limit="{max_requeues} (max_requeues)"
else
    echo "$code" >>"$failures"
    again=$(( $(wc -l <"$failures") <= {retries} )) limit="{retries} (retries)"
fi
# A job that is cancelled, out of time or queued again by Slurm itself is no longer RUNNING.
state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
if [[ $state != RUNNING ]]; then
    echo "dlm: exit code $code, and the job is $state: the rest is left to Slurm"
elif (( ! again )); then
    echo "dlm: exit code $code, and it was queued again often enough: $limit"
else
    echo "dlm: exit code $code: queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def script_name(job: ClusterJob) -> str:
    """Name of a stage's script inside the folder of scripts."""
    return f"{job.directory}.sbatch"


def render_script(submission: Submission, job: ClusterJob) -> str:
    """The batch script of one stage."""
    cluster = submission.cluster
    slurm = submission.run_dir / SLURM_FOLDER
    variables = [f"export {name}={quote(text)}" for name, text in cluster.environment.items()]
    lines = [*cluster.setup, *variables]
    torchrun = cluster.launcher == "torchrun"
    return _SCRIPT.format(
        options="\n".join(f"#SBATCH {line}" for line in _options(submission, job)),
        stage=job.stage,
        recipe=on_one_line(submission.recipe),
        folder=quote(str(submission.working_directory)),
        setup="".join(f"{line}\n" for line in lines),
        slurm=quote(str(slurm)),
        prepare=_cell(submission, job) + (_RENDEZVOUS if torchrun else ""),
        launch=" \\\n    ".join([*_launcher(submission, job), *_command(submission, job)]),
        max_requeues=cluster.max_requeues,
        retries=cluster.retries,
    )


_RENDEZVOUS = f"""\
head=${{MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}}
port=$(( {PORTS_FROM} + SLURM_JOB_ID % {PORTS} ))
# torchrun hands these signals on, and would kill after 30 s what is still saving.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGUSR1 TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600
"""


def _options(submission: Submission, job: ClusterJob) -> list[str]:
    cluster, given = submission.cluster, job.resources
    number = "%A_%a" if job.cells else "%j"
    logs = submission.run_dir / SLURM_FOLDER / "logs"
    log = sbatch_path(str(logs / job.directory), f"-{number}.out")
    torchrun = cluster.launcher == "torchrun"
    cpus, memory = given.cpus_per_process, given.memory_per_node
    options = [
        f"--job-name={sbatch_value(f'dlm-{submission.recipe}-{job.directory}')}",
        *(f"--{name}={sbatch_value(value)}" for name, value in {
            "account": cluster.account, "partition": given.partition, "qos": given.qos,
            "constraint": given.constraint, "time": given.time_limit,
        }.items() if value is not None),
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={1 if torchrun else job.processes}",
        *([f"--gres=gpu:{job.gpus}"] if job.gpus else []),
        *([f"--cpus-per-task={cpus * (job.processes if torchrun else 1)}"] if cpus else []),
        *([f"--mem={sbatch_value(memory)}"] if memory is not None else []),
        *([f"--array={_array(submission, job)}"] if job.cells else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR1@{cluster.signal_lead_s}",
        f"--output={log}",
        *(given.sbatch or ()),
    ]  # fmt: skip
    return options


def _launcher(submission: Submission, job: ClusterJob) -> list[str]:
    """srun and what it starts, up to the Python of the container; a list of lines."""
    cluster = submission.cluster
    # One process that stops first must not have the others killed while they save.
    srun = f"srun --kill-on-bad-exit=0 --wait={STRAGGLERS_S}"
    if job.resources.cpus_per_process is not None:
        srun += ' --cpus-per-task="$SLURM_CPUS_PER_TASK"'  # which srun no longer takes by itself
    box = cluster.container
    python = cluster.python or (sys.executable if box.image is None else "python")
    lines = [srun]
    if box.image is not None:
        folders = dict.fromkeys(map(str, (submission.working_directory, submission.run_dir)))
        mounts = [*box.mounts, *(f"{place}:{place}" for place in folders)]
        folder = quote(str(submission.working_directory))
        image, options = quote(box.image), " ".join(map(quote, box.options))
        if box.runtime == "pyxis":
            lines += [f"--container-image={image}",
                      f"--container-mounts={quote(','.join(mounts))}",
                      f"--container-workdir={folder}"]  # fmt: skip
            lines += [options] if options else []
        else:
            nv = " --nv" if job.gpus else ""
            lines += [f"apptainer exec{nv} --pwd {folder}"]
            lines += [f"--bind {quote(mount)}" for mount in mounts]
            lines += [*([options] if options else []), image]
    if cluster.launcher == "srun":
        return [*lines, f"{quote(python)} -m dlm.cli run {_recipe_file(submission, job)}"]
    return [
        *lines,
        f"{quote(python)} -m torch.distributed.run --nnodes={job.nodes} "
        f"--nproc-per-node={job.processes} --max-restarts=0",
        '--rdzv-backend=c10d --rdzv-endpoint="$head:$port" --rdzv-id="$SLURM_JOB_ID"',
        f"-m dlm.cli run {_recipe_file(submission, job)}",
    ]


def _command(submission: Submission, job: ClusterJob) -> list[str]:
    """What follows ``dlm run RECIPE``; a list of lines."""
    run_dir = quote(str(submission.run_dir)) + ('/"$cell"' if job.cells else "")
    words = " ".join(map(quote, job.overrides))
    return [f"--run-dir {run_dir} --only {quote(job.stage)}", *([words] if words else [])]


def _recipe_file(submission: Submission, job: ClusterJob) -> str:
    """The frozen recipe: of the cell that the task of an array works on."""
    if not job.cells:
        return quote(str(submission.recipe_file()))
    return quote(str(submission.run_dir / SLURM_FOLDER)) + '/recipe-"$cell".yaml'


def _array(submission: Submission, job: ClusterJob) -> str:
    """The array's numbers, those of the cells in the whole sweep: a cell has one in all stages; and
    how many may run at once."""
    numbers = ",".join(str(submission.cells.index(cell)) for cell in job.cells)
    at_once = job.resources.max_array_tasks
    return numbers if at_once is None else f"{numbers}%{at_once}"


def _cell(submission: Submission, job: ClusterJob) -> str:
    """Which cell the task is for."""
    if not job.cells:
        return ""
    names = " ".join(map(quote, submission.cells))
    return f"cells=({names})\ncell=${{cells[$SLURM_ARRAY_TASK_ID]}}\n"
