"""`dlm submit`, `status` and `cancel` against programs that only note what they are asked."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from cluster_tools import SBATCH, Call, FakePrograms

STAGES = ("01_tokenizer", "02_pretrain", "03_adapt", "04_twin")


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text("partition: test\ntime_limit: '1:00:00'\nstages: {adapt: {nodes: 2}}\n")
    return file


def test_stages_are_queued_in_order_each_after_what_it_needs(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = call("submit", recipe, "--cluster", cluster, "--run-dir", run)
    assert done.code == 0, done.err
    after = "--kill-on-invalid-dep=yes"
    assert slurm.asked() == [
        f"--parsable {run}/slurm/01_tokenizer.sbatch",
        f"--parsable --dependency=afterok:101 {after} {run}/slurm/02_pretrain.sbatch",
        f"--parsable --dependency=afterok:102 {after} {run}/slurm/03_adapt.sbatch",
        # The twin does not wait for what it does not need.
        f"--parsable --dependency=afterok:101 {after} {run}/slurm/04_twin.sbatch",
    ]
    record = json.loads((run / "jobs.json").read_text())
    assert [(job["stage"], job["job"]) for job in record["jobs"]] == [
        ("tokenizer", "101"), ("pretrain", "102"), ("adapt", "103"), ("twin", "104"),
    ]  # fmt: skip


def test_scripts_are_valid_and_tell_dlm_the_shape_of_the_allocation(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    settings = "\nsetup: [module load x]\nenvironment: {A: 'b c'}\nlauncher: torchrun\n"
    cluster.write_text(cluster.read_text() + settings)
    assert call("submit", recipe, "--cluster", cluster, "--run-dir", run).code == 0
    for stage in STAGES:
        script = run / "slurm" / f"{stage}.sbatch"
        subprocess.run(["/bin/bash", "-n", script], check=True)
    text = (run / "slurm" / "03_adapt.sbatch").read_text()
    for part in (
        "#SBATCH --nodes=2\n", "#SBATCH --partition=test\n", "#SBATCH --time=1:00:00\n",
        "#SBATCH --requeue\n", "#SBATCH --open-mode=append\n", "#SBATCH --signal=B:USR1@120\n",
        f'#SBATCH --output="{run}/slurm/logs/03_adapt-%j.out"\n',
        "\nmodule load x\nexport A='b c'\n", "--nnodes=2 --nproc-per-node=1",
        "--only adapt", "stages.adapt.hardware.num_nodes=2 stages.adapt.hardware.devices=1",
    ):  # fmt: skip
        assert part in text, part


def test_a_recipe_for_cpus_takes_no_gpus(
    call: Call, recipe: Path, cluster: Path, tmp_path: Path
) -> None:
    words = ("submit", recipe, "--cluster", cluster, "--dry-run", "--run-dir", tmp_path / "run")
    cluster.write_text("nodes: 2\ngpus_per_node: 2\n")
    refused = call(*words)
    assert refused.code == 2
    assert "stage pretrain is for CPUs" in refused.err and "2 x 2 GPUs" in refused.err
    assert call(*words, "hardware.accelerator=auto").code == 0
    cluster.write_text("nodes: 2\ngpus_per_node: 0\n")
    assert call(*words).code == 0


def test_containers_see_the_folders_that_a_stage_needs(
    call: Call, recipe: Path, cluster: Path, tmp_path: Path
) -> None:
    plain = "gpus_per_node: 2\ncontainer: {image: /i.sif, mounts: ['/d:/d:ro']"
    shown = {}
    for runtime in ("pyxis", "apptainer"):
        cluster.write_text(f"{plain}, runtime: {runtime}}}\n")
        words = (recipe, "hardware.accelerator=auto", "--cluster", cluster, "--dry-run")
        shown[runtime] = call("submit", *words, "--run-dir", tmp_path / "run").out
    here, run = os.getcwd(), tmp_path / "run"
    assert f"--container-mounts=/d:/d:ro,{here}:{here},{run}:{run}" in shown["pyxis"]
    assert "apptainer exec --nv" in shown["apptainer"] and "--bind /d:/d:ro" in shown["apptainer"]
    assert "#SBATCH --gres=gpu:2" in shown["pyxis"] and "accelerator=gpu" in shown["pyxis"]


def test_a_dry_run_prints_the_scripts_and_touches_nothing(
    call: Call, recipe: Path, cluster: Path, programs: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shown = call("submit", recipe, "--cluster", cluster, "--run-dir", run, "--dry-run")
    assert shown.code == 0 and shown.out.count("#!/bin/bash") == 4
    assert "sbatch --dependency=afterok:<pretrain>" in shown.out
    assert not run.exists()


def test_the_submitted_recipe_is_frozen(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    call("submit", recipe, "--cluster", cluster, "--run-dir", run, "train.steps=7")
    frozen = run / "slurm" / "recipe.yaml"
    assert frozen.read_text().count("steps: 7") >= 3
    assert f"dlm.cli run {frozen}" in (run / "slurm" / "02_pretrain.sbatch").read_text()


def test_seeds_are_arrays_whose_tasks_wait_for_each_other(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = call("submit", recipe, "--cluster", cluster, "--run-dir", run, "--seeds", "1,5-6",
                "--to", "pretrain")  # fmt: skip
    assert done.code == 0, done.err
    assert "--dependency=aftercorr:101" in slurm.asked()[1]
    text = (run / "slurm" / "02_pretrain.sbatch").read_text()
    assert "#SBATCH --array=0,1,2\n" in text
    assert f'--run-dir {run}/"$cell" --only pretrain' in text
    assert "cells=(seed-1 seed-5 seed-6)\ncell=${cells[$SLURM_ARRAY_TASK_ID]}\n" in text
    assert (run / "seed-5" / "recipe.yaml").is_file()
    shown = call("status", run)
    assert shown.code == 0 and shown.out.count("unknown (job 101)") == 3


def test_so_many_cells_at_once_as_the_cluster_file_or_the_command_line_says(
    call: Call, recipe: Path, cluster: Path, programs: FakePrograms, tmp_path: Path
) -> None:
    words = ("submit", recipe, "--cluster", cluster, "--run-dir", tmp_path / "run", "--dry-run")
    cluster.write_text("max_array_tasks: 3\nstages: {adapt: {max_array_tasks: 1}}\n")
    shown = call(*words, "--seeds", "1-5")
    assert shown.code == 0, shown.err
    assert shown.out.count("#SBATCH --array=0,1,2,3,4%3\n") == 3
    assert shown.out.count("#SBATCH --array=0,1,2,3,4%1\n") == 1
    assert call(*words, "--seeds", "1-5", "--max-array-tasks", "2").out.count("4%2\n") == 4
    assert "--array" not in call(*words).out


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("", ("--seeds", "1,2", "--max-array-tasks", "0"), "--max-array-tasks must be at least"),
        ("", ("--max-array-tasks", "2"), "would be ignored: one run is no array"),
        ("max_array_tasks: 0\n", (), "max_array_tasks = 0: must be at least 1"),
        ("stages: {adapt: {max_array_tasks: two}}\n", (), "must be a whole number or null"),
        ("sbatch: ['--array=0-3%2']\n", (), "--array is set by dlm submit"),
        ("scheduler: kubernetes\nkubernetes: {image: i}\n",
         ("--seeds", "1,2", "--max-array-tasks", "2"), "kubernetes has no job arrays"),
        ("scheduler: kubernetes\nkubernetes: {image: i}\nmax_array_tasks: 2\n", (),
         "max_array_tasks = 2: ignored setting"),
    ],
)  # fmt: skip
def test_a_limit_of_cells_that_means_nothing_is_refused(
    text: str, words: tuple[str, ...], message: str, call: Call, recipe: Path, cluster: Path
) -> None:
    cluster.write_text(text or "partition: test\n")
    refused = call("submit", recipe, "--cluster", cluster, "--dry-run", *words)
    assert refused.code == 2 and message in refused.err


def test_cells_of_a_sweep_are_arrays_each_of_the_cells_that_have_the_stage(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    sweep = "sweep: {size: {small: {stages.twin: null}, large: {model.hidden_size: 256}}}\n"
    recipe.write_text(recipe.read_text() + sweep)
    done = call("submit", recipe, "--cluster", cluster, "--run-dir", run)
    assert done.code == 0, done.err
    adapt, twin = (run / "slurm" / f"{stage}.sbatch" for stage in ("03_adapt", "04_twin"))
    assert "#SBATCH --array=0,1\n" in adapt.read_text()
    # A cell keeps its number, and what has other cells than its need waits for all of them.
    assert "#SBATCH --array=1\n" in twin.read_text()
    assert "--dependency=afterok:101" in slurm.asked()[3]
    assert f'dlm.cli run {run}/slurm/recipe-"$cell".yaml' in adapt.read_text()
    frozen = (run / "slurm" / "recipe-large.yaml").read_text()
    assert "hidden_size: 256" in frozen and "sweep" not in frozen
    shown = call("status", run).out
    assert "cell small (without twin):" in shown and "cell large (model.hidden_size" in shown
    assert shown.count("(job 104)") == 1 and shown.count("(job 101)") == 2


@pytest.mark.parametrize("seeds", ["1,x", "1,1", "3-2"])
def test_seeds_that_are_none_are_refused(
    seeds: str, call: Call, recipe: Path, cluster: Path, programs: FakePrograms
) -> None:
    refused = call("submit", recipe, "--cluster", cluster, "--seeds", seeds)
    assert refused.code == 2 and f"--seeds {seeds}" in refused.err


def test_a_missing_sbatch_is_explained(
    call: Call, recipe: Path, cluster: Path, programs: FakePrograms, tmp_path: Path
) -> None:
    refused = call("submit", recipe, "--cluster", cluster, "--run-dir", tmp_path / "run")
    assert refused.code == 2
    assert "sbatch is not installed here: run dlm on a login node" in refused.err


def test_a_refusal_of_sbatch_takes_back_the_jobs_before_it(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    slurm.write("sbatch", SBATCH.format(calls=slurm.calls, refused="03_adapt"))
    refused = call("submit", recipe, "--cluster", cluster, "--run-dir", tmp_path / "run")
    assert refused.code == 3
    assert "stage adapt was not queued" in refused.err and "invalid partition" in refused.err
    assert "cancelled again: 101 (tokenizer), 102 (pretrain)" in refused.err
    assert slurm.asked()[-1] == "scancel 102 101"
    slurm.write("scancel", "echo no >&2; exit 1")
    refused = call("submit", recipe, "--cluster", cluster, "--run-dir", tmp_path / "run2")
    assert "are still queued: 10" in refused.err


def test_a_run_with_jobs_in_the_queue_is_not_submitted_twice(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("submit", recipe, "--cluster", cluster, "--run-dir", run)
    assert call(*words).code == 0
    slurm.write("squeue", "echo '101|COMPLETED|None'; echo '102|RUNNING|None'; "
                          "echo '103|PENDING|Dependency'")  # fmt: skip
    refused = call(*words)
    assert refused.code == 4
    assert "102 (pretrain), 103 (adapt)." in refused.err and f"dlm cancel {run}" in refused.err
    shown = call("status", run)
    assert "RUNNING (job 102)" in shown.out and "PENDING (Dependency) (job 103)" in shown.out
    done = call("cancel", run)
    assert done.code == 0 and slurm.asked()[-1] == "scancel 103 102"
    slurm.write("squeue", "echo 'no answer' >&2; exit 1")
    refused = call(*words)
    assert refused.code == 2 and "cannot be told" in refused.err and "no answer" in refused.err
    slurm.write("squeue", "exit 0")
    assert call(*words).code == 0


def test_states_come_from_the_accounts_when_the_queue_has_forgotten(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    call("submit", recipe, "--cluster", cluster, "--run-dir", run)
    slurm.write("sacct", "echo '101|COMPLETED'; echo '102|CANCELLED by 0'")
    shown = json.loads(call("status", run, "--json").out)["stages"]
    assert [row["queue"] for row in shown] == [
        "COMPLETED (job 101)", "CANCELLED (job 102)", "unknown (job 103)", "unknown (job 104)",
    ]  # fmt: skip


def test_what_was_never_submitted_cannot_be_cancelled(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
        refused = call("cancel", place)
        assert refused.code == 2 and "was never submitted" in refused.err


def test_a_damaged_record_is_named(call: Call, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text("{")
    refused = call("cancel", tmp_path)
    assert refused.code == 2 and "jobs.json is damaged" in refused.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nodes: 3\n", "must be a multiple of devices 1 x num_nodes 3 = 3"),
        ("stages: {adpt: {nodes: 2}}\n", "no such stage, and there is no such kind; did you mean"),
        ("stages: {tokenizer: {nodes: 2}}\n", "one process carries out stages of kind tokenizer"),
    ],
)
def test_a_cluster_file_that_does_not_fit_the_recipe_is_refused(
    text: str, expected: str, call: Call, recipe: Path, cluster: Path, slurm: FakePrograms
) -> None:
    cluster.write_text(text)
    refused = call("submit", recipe, "--cluster", cluster, "--run-dir", cluster.parent / "run")
    assert refused.code == 2 and expected in refused.err
    assert slurm.asked() == []


def test_a_stage_whose_start_is_missing_is_refused_before_anything_is_queued(
    call: Call, recipe: Path, cluster: Path, slurm: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    refused = call("submit", recipe, "--cluster", cluster, "--run-dir", run, "--only", "adapt")
    assert refused.code == 2 and "needs pretrain" in refused.err
    assert "begins nothing anew" in refused.err and slurm.asked() == []
    assert not (run / "jobs.json").exists()


@pytest.mark.parametrize(("rank", "left"), [("0", "2\n"), ("1", None)])
def test_rank_0_leaves_its_exit_code_where_the_script_looks(
    rank: str, left: str | None, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "code"
    monkeypatch.setenv("DLM_EXIT_CODE_FILE", str(place))
    monkeypatch.setenv("SLURM_PROCID", rank)
    assert call("run", tmp_path / "nothing.yaml").code == 2
    assert (place.read_text() if place.exists() else None) == left
