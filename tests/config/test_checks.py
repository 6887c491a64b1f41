"""What a well-typed recipe must mean."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dlm.config import checks
from dlm.config.checks import READ_BY_EVERY_KIND, SECTIONS, reads
from dlm.config.loading import load_recipe, resolved_yaml
from dlm.config.schema import DEFAULT_BATCH_SIZE, SECTIONS_OF_KIND
from dlm.errors import UserError

Write = Callable[..., Path]
EVALUATION = "stages.scores.evaluation"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        # Settings that are not read.
        ("stages.pretrain.generation={length_beam: 2}", "pretrain.generation: ignored setting"),
        ("stages.length.model={hidden_size: 32}", "stages.length.model: ignored setting"),
        ("stages.length.train={length_grouping: 5}", "train.length_grouping = 5: ignored setting"),
        ("stages.adapt.objective={mask_rate: 0.1}", "objective.mask_rate = 0.1: ignored setting"),
        ("stages.twin.generation={length_beam: 2}", "generation.length_beam = 2: ignored setting"),
        ("stages.scores.init_from=adapt", "scores.init_from = 'adapt': ignored setting"),
        ("stages.adapt.tokenizer=vocabulary", "adapt.tokenizer = 'vocabulary': ignored setting"),
        ("stages.adapt.model={pretrained: a/b}", "model.pretrained = 'a/b': ignored setting"),
        ("stages.adapt.model={hidden_size: 32}", "adapt.model.hidden_size = 32: ignored setting"),
        ("stages.adapt.model={num_layers: 2}", "pretrain (init_from) has its own; remove it"),
        (
            "stages.pretrain.objective={mask_rate: 0.1, times: coupled}",
            "pretrain.objective.times = 'coupled': ignored setting: with mask_rate = 0.1",
        ),
        # References.
        ("stages.adapt.init_from=pretrian", "did you mean 'pretrain'?"),
        ("stages.adapt.init_from=length", "this stage comes later; name an earlier one"),
        ("stages.adapt.init_from=adapt", "a stage cannot need itself"),
        ("stages.adapt.init_from=vocabulary", "a stage of kind tokenizer has nothing to give"),
        ("stages.twin.tokenizer=nothing", "twin.tokenizer = 'nothing': no earlier stage"),
        (f"{EVALUATION}.systems.diffusion.model=lenght", "did you mean 'length'?"),
        ("serve=adpat", "serve = 'adpat': no stage has this name; did you mean 'adapt'?"),
        ("serve=scores", "serve = 'scores': kind evaluate has no model to serve"),
        # What a kind needs.
        ("data.train=[]", "data.train: missing: kind tokenizer needs at least one source"),
        ("stages.twin.tokenizer=null", "stages.twin.tokenizer: missing"),
        ("stages.length.init_from=null", "length.init_from: missing"),
        (f"{EVALUATION}.tasks=[]", "evaluation.tasks: missing"),
        (f"{EVALUATION}.systems.new={{}}", "evaluation.systems.new.model: missing"),
        # Sources.
        ("data.train=[{name: x}]", "data.train[0]: needs one of path, hub and generator"),
        ("data.train=[{generator: a, count: 1, hub: a/b}]", "generator excludes path and hub"),
        ("data.train=[{generator: a}]", "generator needs count"),
        ("data.train=[{hub: a/b, limit: 0}]", "limit = 0 must be at least 1"),
        ("data.train=[{path: a, revision: b}]", "revision is read with hub only"),
        ("data.train=[{path: a, count: 3}]", "count is read with generator only"),
        # Ranges.
        ("train.steps=0", "train.steps = 0: must be at least 1"),
        ("train.global_batch_size=0", "must be at least 1"),
        (
            "train.global_batch_tokens=4096",
            "train.global_batch_tokens = 4096: train.global_batch_size = 8 is given too",
        ),
        (
            "train={global_batch_size: null, global_batch_tokens: 0}",
            "train.global_batch_tokens = 0: must be at least 1",
        ),
        ("train.micro_batch_tokens=512", "without train.global_batch_tokens rows are counted"),
        (
            "train={global_batch_size: null, global_batch_tokens: 512, micro_batch_size: 4}",
            "train.micro_batch_size = 4: ignored setting: with train.global_batch_tokens tokens",
        ),
        ("stages.length.train={layout: packed}", "train.layout = 'packed': ignored setting"),
        ("validation.batch_size=0", "must be at least 1"),
        ("generation.num_iterations=0", "must be at least 1"),
        ("generation.length_beam=0", "must be at least 1"),
        ("objective.num_timesteps=0", "must be at least 1"),
        ("optim.lr=0", "optim.lr = 0.0: must be above 0"),
        ("optim.lr=.nan", "must be above 0"),
        ("optim.warmup_steps=-1", "must be at least 0"),
        ("optim.betas=[0.9, 1]", "each must be at least 0 and below 1"),
        ("model.dropout=1", "must be at least 0 and below 1"),
        ("train.label_smoothing=-0.1", "must be at least 0 and below 1"),
        ("stages.pretrain.objective.mask_rate=1", "must be above 0 and below 1"),
        ("hardware.devices=0", "must be at least 1"),
        (f"{EVALUATION}.systems.diffusion.generation.length_beam=0", "must be at least 1"),
        # Parts that must fit.
        ("model.num_heads=5", "model.num_heads = 5: must divide model.hidden_size = 64"),
        ("length.num_heads=3", "length.num_heads = 3: must divide 64, the hidden_size of"),
        (
            f"{EVALUATION}.systems.diffusion.model=adapt",
            "has no length predictor: evaluate the `length` stage made from it (length), or set",
        ),
        ("train.micro_batch_size=3", "must be a multiple of micro_batch_size 3"),
        ("hardware.devices=3", "must be a multiple of devices 3 x num_nodes 1 = 3"),
        ("optim.warmup_steps=101", "more than train.steps = 100"),
        ("data.max_length=513", "longer than model.max_positions = 512"),
        ("validation={export: best}", "more than train.steps = 100: nothing to choose from"),
        (f"{EVALUATION}.compare=[[diffusion, left]]", "'left': no system is called so"),
        (f"{EVALUATION}.compare=[[diffusion]]", "must be a pair of systems"),
        (f"{EVALUATION}.only={{difusion: [words]}}", "did you mean 'diffusion'?"),
        (f"{EVALUATION}.only={{diffusion: [word]}}", "did you mean 'words'?"),
        ("name=a/b", "name = 'a/b': it names the run directory"),
    ],
)
def test_a_recipe_that_cannot_mean_what_it_says_is_refused(
    chain: Path, override: str, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(chain, [override])
    assert expected in str(caught.value)


def test_a_step_has_64_rows_unless_the_recipe_counts_tokens(chain: Path) -> None:
    neither = load_recipe(chain, ["train.global_batch_size=null"]).stages["adapt"].train
    assert neither.batch_rows == DEFAULT_BATCH_SIZE == 64
    tokens = ["train.global_batch_size=null", "train.global_batch_tokens=4096"]
    recipe = load_recipe(chain, tokens)
    assert recipe.stages["adapt"].train.batch_rows is None
    assert load_recipe(chain).stages["adapt"].train.batch_rows == 8


def test_a_resolved_recipe_that_counts_tokens_is_read_back(chain: Path, write: Write) -> None:
    tokens = ["train.global_batch_size=null", "train.global_batch_tokens=4096"]
    recipe = load_recipe(chain, tokens)
    assert load_recipe(write(resolved_yaml(recipe), "resolved.yaml")) == recipe


def test_export_best_needs_validation_data(chain: Path) -> None:
    overrides = ["data.validation=[]", "validation={export: best, every_n_steps: 10}"]
    with pytest.raises(UserError, match=r"needs data\.validation to choose by"):
        load_recipe(chain, overrides)
    load_recipe(chain, overrides[1:])


def test_a_system_with_lengths_from_the_references_needs_no_predictor(chain: Path) -> None:
    system = f"{EVALUATION}.systems.diffusion"
    load_recipe(chain, [f"{system}.model=adapt", f"{system}.generation.length=oracle"])
    load_recipe(chain, [f"{system}.model=adapt", "generation.length=oracle"])


def test_heads_of_a_length_predictor_are_free_where_the_backbone_is_unknown(chain: Path) -> None:
    overrides = ["stages.pretrain.tokenizer=null", "stages.pretrain.init_from=owner/model"]
    load_recipe(chain, [*overrides, "length.num_heads=3"])


def test_a_resolved_recipe_with_a_mask_rate_is_read_back(chain: Path, write: Write) -> None:
    recipe = load_recipe(chain, ["stages.pretrain.objective.mask_rate=0.1"])
    assert load_recipe(write(resolved_yaml(recipe), "resolved.yaml")) == recipe


def test_a_stage_name_that_is_no_plain_word_is_refused(write: Write) -> None:
    path = write("stages: {My Stage: {kind: tokenizer, data: {train: [{hub: a/b}]}}}\n")
    with pytest.raises(UserError, match=r"stages\.My Stage: a stage's name has only"):
        load_recipe(path)


def test_hub_names_and_existing_directories_are_no_stage_names(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    load_recipe(chain, ["stages.adapt.init_from=owner/model"])
    load_recipe(chain, ["stages.adapt.init_from=exported"])


def test_checkpoint_hardware_and_logging_are_read_by_every_kind() -> None:
    for kind in SECTIONS_OF_KIND:
        read = {section for section in SECTIONS if reads(kind, section)}
        assert read == {*SECTIONS_OF_KIND[kind], *READ_BY_EVERY_KIND}


def test_every_range_and_kind_table_names_real_settings(chain: Path) -> None:
    recipe = load_recipe(chain)
    for key in (*checks._RANGE_OF, *checks._KINDS_OF_SETTING):
        section, setting = key.split(".")
        assert hasattr(getattr(recipe, section), setting)
