"""The paper's recipes: its numbers, and the planner's word in each header."""

import json
import re

import pytest

from dlm.cli import main
from dlm.config.loading import load_recipe
from dlm.config.shipped import shipped_recipes

SIZES = ("base", "large", "xl", "xxl")
# arXiv 2308.12219: tokens or rows of a batch, learning rate, and steps for each size.
PAPER = {
    "iwslt14": ([32768] * 4, 5e-5, [150_000, 150_000, 100_000, 30_000]),
    "wmt14": ([131072] * 4, 5e-5, [300_000, 300_000, 150_000, 100_000]),
    "gigaword-10k": ([16384] * 4, 5e-5, [30_000, 10_000, 5_000, 1_000]),
    "flan2021": ([512, 512, 512, 256], 5e-5, [5_000, 5_000, 3_000, 1_000]),
    "flan2022": ([512, 512, 1024, 2048], 1e-5, [70_000, 30_000, 17_000, 4_000]),
}
RECIPES = [(task, number) for task in PAPER for number in range(4)]


def recipe_name(task: str, number: int) -> str:
    return f"paper/{task}" + (f"-{SIZES[number]}" if number else "")


@pytest.mark.parametrize("task, number", RECIPES)
def test_a_recipe_has_the_papers_numbers(task: str, number: int) -> None:
    recipe = load_recipe(recipe_name(task, number))
    stage = next(iter(recipe.stages.values()))
    batches, lr, steps = PAPER[task]
    assert stage.init_from is not None and stage.init_from.endswith(f"roberta-{SIZES[number]}")
    assert stage.train.steps == steps[number] and stage.optim.lr == lr
    assert (stage.train.batch_rows or stage.train.global_batch_tokens) == batches[number]
    assert (stage.optim.betas, stage.optim.weight_decay) == ((0.9, 0.98), 0.01)
    assert (stage.optim.schedule, stage.optim.warmup_steps) == ("inverse_sqrt", None)
    assert stage.objective.num_timesteps == 50 and stage.train.label_smoothing == 0
    assert stage.objective.weight == "rdm_linear" and stage.objective.times in (None, "coupled")
    assert recipe.generation.sampler == "reparam-uncond-deterministic-cosine"
    assert recipe.generation.length_beam == (3 if "flan" in task else 10)


@pytest.mark.slow
@pytest.mark.parametrize("task, number", RECIPES)
def test_its_header_says_what_the_planner_says(
    task: str, number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = recipe_name(task, number)
    header = shipped_recipes()[name].read_text(encoding="utf-8").split("\ndescription:")[0]
    command = re.search(rf"`dlm (plan {name} .*)`:", header)
    assert command is not None
    assert main([*command.group(1).split(), "--json"]) == 0
    stage = json.loads(capsys.readouterr().out)["stages"][0]
    chosen = stage["chosen"]
    micro = chosen["micro_batch"]
    size = f"{micro['rows']:,} rows" if micro["rows"] else f"{micro['tokens']:,} tokens"
    assert (
        f"{chosen['name']}, {size} x {micro['accumulate']}, "
        f"{chosen['memory']['total'] / 2**30:.1f} GiB a GPU, {stage['hours']:.2g} hours at MFU 0.35"
    ) in header
    assert f"a checkpoint of {stage['checkpoint_bytes'] / 2**30:.1f} GiB" in header
    for setting in chosen["settings"].split():
        assert setting in header
