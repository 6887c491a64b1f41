"""The JobSet: stages in order, exit codes, what pods see; checked by Kubeflow's own models."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_tools import Call, FakePrograms

from dlm.config.loading import load_recipe, resolved_yaml

KUBECTL = """\
case "$*" in
    apply*) cp "${{2#--filename=}}" {folder}/applied.yaml;;
    "get jobsets"*) echo '{jobsets}';;
    "get jobs"*) echo '{jobs}';;
    *) echo "$*" >>{calls};;
esac
"""


@pytest.fixture
def recipe(recipe: Path) -> Path:
    """For GPUs too: the cluster gives some."""
    recipe.write_text(recipe.read_text().replace("accelerator: cpu", "accelerator: auto"))
    return recipe


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "scheduler: kubernetes\nnodes: 2\ngpus_per_node: 2\ncpus_per_process: 4\nretries: 3\n"
        "kubernetes: {image: dlm, volumes: {runs: /runs}, run_root: /runs}\n"
    )
    return file


def manifests(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


@pytest.fixture
def printed(call: Call, recipe: Path, cluster: Path, tmp_path: Path) -> list[dict[str, Any]]:
    shown = call("submit", recipe, "--cluster", cluster, "--run-dir", tmp_path / "run", "--dry-run")
    assert shown.code == 0, shown.err
    return manifests(shown.out)


def test_the_manifests_are_what_kubeflow_trainer_understands(
    printed: list[dict[str, Any]],
) -> None:
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="needs kubeflow-trainer-api (the extra `dev`)"
    )
    read = models.JobsetV1alpha2JobSet.from_dict(printed[1])
    written = json.loads(json.dumps(read.to_dict(), default=str))
    # What the models do not know is not in what they give back.
    assert _known(printed[1], written) == []


def test_stages_follow_each_other_and_exit_codes_are_told_apart(
    printed: list[dict[str, Any]], recipe: Path
) -> None:
    config_map, jobset = printed
    assert config_map["data"]["recipe.yaml"] == resolved_yaml(load_recipe(recipe))
    jobs = jobset["spec"]["replicatedJobs"]
    assert [job["name"] for job in jobs] == [
        "s01-tokenizer", "s02-pretrain", "s03-adapt", "s04-twin",
    ]  # fmt: skip
    assert "dependsOn" not in jobs[0]
    assert jobs[2]["dependsOn"] == [{"name": "s02-pretrain", "status": "Complete"}]
    spec = jobs[1]["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (2, 2, 6)
    rules = spec["podFailurePolicy"]["rules"]
    codes = {rule["action"]: rule["onExitCodes"]["values"] for rule in rules[:2]}
    assert codes == {"FailJob": [2], "Ignore": [75]}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "8", "nvidia.com/gpu": "2"}
    script = container["command"][-1]
    assert script.startswith("exec python -m dlm.cli run /etc/dlm/recipe.yaml --run-dir /runs/run")
    assert "stages.pretrain.hardware.num_nodes=2 stages.pretrain.hardware.devices=2" in script
    variables = {item["name"]: item.get("value") for item in container["env"]}
    name = jobset["metadata"]["name"]
    assert variables["MASTER_ADDR"] == f"{name}-s02-pretrain-0-0.{name}"
    assert "NODE_RANK" in variables
    # One process carries out the tokenizer, without a GPU and without others to meet.
    first = jobs[0]["template"]["spec"]
    assert first["completions"] == 1
    assert first["template"]["spec"]["containers"][0]["env"] == []


def test_a_jobset_is_applied_shown_and_cancelled(
    call: Call, recipe: Path, cluster: Path, programs: FakePrograms, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    place = {"folder": tmp_path, "calls": programs.calls}
    programs.write("kubectl", KUBECTL.format(**place, jobsets="", jobs=""))
    words = ("submit", recipe, "--cluster", cluster, "--run-dir", run, "--seeds", "1,2")
    assert call(*words).code == 0
    applied = manifests((tmp_path / "applied.yaml").read_text())
    names = [item["metadata"]["name"] for item in applied if item["kind"] == "JobSet"]
    assert len(set(names)) == 2
    assert "/runs/run/seed-2" in str(applied[3])
    assert "seed: 2\n" in applied[2]["data"]["recipe.yaml"]
    jobsets = [{"metadata": {"name": name}, "status": {}} for name in names]
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    jobs = [
        {"metadata": {"name": f"{names[0]}-s01-tokenizer-0"}, "status": done},
        {"metadata": {"name": f"{names[0]}-s02-pretrain-0"}, "status": {"active": 2}},
    ]
    answers = {"jobsets": json.dumps({"items": jobsets}), "jobs": json.dumps({"items": jobs})}
    programs.write("kubectl", KUBECTL.format(**place, **answers))
    shown = call("status", run)
    for text in ("COMPLETED (job", "RUNNING (job", "PENDING (job"):
        assert text in shown.out
    refused = call(*words)
    assert refused.code == 4 and f"{names[0]}-s02-pretrain-0 (pretrain)" in refused.err
    assert call("cancel", run).code == 0
    assert programs.asked() == [f"delete jobset --namespace=default {names[0]} {names[1]}"]
    programs.write("kubectl", KUBECTL.format(**place, jobsets='{"items":[]}', jobs='{"items":[]}'))
    assert "no job of" in call("cancel", run).out


def test_a_missing_kubectl_is_explained(
    call: Call, recipe: Path, cluster: Path, programs: FakePrograms, tmp_path: Path
) -> None:
    refused = call("submit", recipe, "--cluster", cluster, "--run-dir", tmp_path / "run")
    assert refused.code == 2 and "kubectl is not installed here" in refused.err
    assert not (tmp_path / "run" / "jobs.json").exists()


def _known(ours: Any, theirs: Any, at: str = "") -> list[str]:
    """Keys of ours that are not in theirs."""
    if isinstance(ours, dict):
        if not isinstance(theirs, dict):
            return [at]
        return [
            place
            for key, value in ours.items()
            for place in (
                _known(value, theirs[key], f"{at}.{key}") if key in theirs else [f"{at}.{key}"]
            )
        ]
    if isinstance(ours, list):
        return [p for a, b in zip(ours, theirs, strict=True) for p in _known(a, b, f"{at}[]")]
    return []
