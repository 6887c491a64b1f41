"""What a well-typed recipe must mean."""

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest

from dlm.config.checks import every_stage as checks
from dlm.config.checks.every_stage import READ_BY_EVERY_KIND, SECTIONS, reads
from dlm.config.loading import load_recipe, resolved_yaml
from dlm.config.ranges import RANGE_OF
from dlm.config.schema import DEFAULT_BATCH_SIZE, SECTIONS_OF_KIND
from dlm.errors import UserError
from dlm.recipe.fingerprint import semantic_config

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
        ("stages.length.lora={rank: 4}", "stages.length.lora: ignored setting: kind length"),
        ("stages.vocabulary.lora={rank: 4}", "stages.vocabulary.lora: ignored setting"),
        ("lora.alpha=16", "lora.alpha = 16.0: ignored setting: lora.rank is not set"),
        ("stages.adapt.lora={targets: [query]}", "adapt.lora.targets = ['query']: ignored setting"),
        (
            "stages.adapt.model={vocabulary: {characters: false}}",
            "adapt.model.vocabulary.characters = False: ignored setting: model.vocabulary.keep is",
        ),
        (
            "stages.pretrain.model={vocabulary: {keep: used}}",
            "pretrain.model.vocabulary.keep = 'used': a model from scratch has no tokens to cut",
        ),
        (
            "stages.adapt={model: {vocabulary: {keep: used}}, lora: {rank: 2, keep_adapter: true}}",
            "adapt.lora.keep_adapter = True: with model.vocabulary.keep=used the adapter would",
        ),
        ("stages.pretrain.model={fresh_head: true}", "all of a model from scratch is fresh"),
        (
            "stages.adapt.model={fresh_head: true}",
            "adapt.model.fresh_head = True: ignored setting: it belongs to model.pretrained",
        ),
        (
            "stages.adapt={init_from: null, lora: {rank: 2}, "
            "model: {pretrained: a/b, fresh_head: true}}",
            "adapt.model.fresh_head = True: lora would freeze the random output layer",
        ),
        ("stages.length.model={vocabulary: {keep: used}}", "stages.length.model: ignored setting"),
        ("stages.scores.init_from=adapt", "scores.init_from = 'adapt': ignored setting"),
        ("stages.adapt.tokenizer=vocabulary", "adapt.tokenizer = 'vocabulary': ignored setting"),
        ("stages.adapt.model={pretrained: a/b}", "model.pretrained = 'a/b': ignored setting"),
        ("stages.adapt.model={hidden_size: 32}", "adapt.model.hidden_size = 32: ignored setting"),
        ("stages.adapt.model={num_layers: 2}", "pretrain (init_from) has its own; remove it"),
        (
            "stages.pretrain.objective={mask_rate: 0.1, times: coupled}",
            "pretrain.objective.times = 'coupled': ignored setting: with mask_rate = 0.1",
        ),
        ("stages.pretrain.data={canvas_length: 32}", "data.canvas_length = 32: ignored setting"),
        ("stages.length.data={canvas_length: 32}", "data.canvas_length = 32: ignored setting"),
        ("stages.twin.data={canvas_length: 32}", "data.canvas_length = 32: ignored setting"),
        ("stages.pretrain.objective={canvas_padding: first_end_only}", "adapt, instruct do"),
        ("stages.adapt.data={canvas_length: 32, task: text}", "plain text has no response to pad"),
        (
            "stages.adapt.objective={canvas_padding: first_end_only}",
            "stages.adapt.objective.canvas_padding = 'first_end_only': needs data.canvas_length",
        ),
        ("objective={canvas_padding: first_end_only}", "canvas_padding = 'first_end_only': needs"),
        ("stages.adapt.generation={length: canvas}", "generation.length = 'canvas': needs data."),
        (
            "stages.adapt.generation={canvas_length: 8}",
            "canvas_length = 8: ignored setting: with generation.length = predicted there is no",
        ),
        ("stages.adapt.generation={end_last: true}", "generation.end_last = True: ignored setting"),
        (
            "stages.adapt.generation={end_penalty: 1}",
            "generation.end_penalty = 1.0: ignored setting",
        ),
        (
            "stages.adapt.generation={min_length: 3}",
            "generation.min_length = 3: ignored setting: without a canvas answers have their ref",
        ),
        ("generation.min_length=-1", "generation.min_length = -1: must be at least 0 and at most"),
        ("generation.end_penalty=-1", "generation.end_penalty = -1.0: must be at least 0"),
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
        (
            "data.train=[{name: x}]",
            "data.train[0]: needs one of path, parallel, hub, generator and stage",
        ),
        (
            "data.train=[{generator: a, count: 1, hub: a/b}]",
            "generator excludes path, parallel and hub",
        ),
        ("data.train=[{generator: a}]", "generator needs count"),
        ("data.train=[{hub: a/b, limit: 0}]", "limit = 0 must be at least 1"),
        ("data.train=[{path: a, revision: b}]", "revision is read with hub only"),
        ("data.train=[{path: a, count: 3}]", "count is read with generator only"),
        ("data.train=[{path: a, streaming: true}]", "streaming is read with hub only"),
        ("data.train=[{hub: a/b, columns: [x]}]", "columns is read with path only"),
        ("data.train=[{hub: a/b, unquoted: true}]", "unquoted is read with path only"),
        ("data.train=[{hub: a/b, delimiter: ;}]", "delimiter is read with path only"),
        ("data.train=[{hub: a/b, encoding: cp1252}]", "encoding is read with path and parallel"),
        ("data.train=[{path: a, encoding: ansi8}]", "Python knows no such encoding of text"),
        ("data.train=[{path: a, encoding: rot13}]", "Python knows no such encoding of text"),
        ("data.train=[{path: a, delimiter: ', '}]", "delimiter = ', ' must be one character"),
        ("data.train=[{path: a, parallel: {src: a, tgt: b}}]", "path and parallel exclude each"),
        ("data.train=[{parallel: {src: a}}]", "parallel needs two fields or more"),
        ("data.train=[{hub: a/b, holdout: {share: 1}}]", "holdout.share = 1.0 must be above 0"),
        ("data.train=[{hub: a/b, holdout: {by: [x]}}]", "holdout needs share"),
        ("data.train=[{hub: a/b, holdout: {part: dev}}]", "must be one of train, validation"),
        ("data.train=[{hub: a/b, holdout: {shere: 0.1}}]", "did you mean 'share'?"),
        ("data.on_bad_row=ignore", "data.on_bad_row = 'ignore': must be one of error, skip"),
        ("data.normalise=nfkc", "data.normalise = 'nfkc': must be one of none, nfc"),
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
        ("hardware.strategy=fsdp", "calls its FSDP2 strategy experimental"),
        ("hardware.strategy=zero4", "zero3"),
        (
            "hardware={strategy: ddp, offload: optimizer}",
            "hardware.offload = 'optimizer': ignored setting: strategy ddp does not offload",
        ),
        (
            "hardware={strategy: zero2, offload: parameters}",
            "hardware.offload = 'parameters': zero2 does not cut the parameters: use zero3",
        ),
        (
            "hardware={strategy: zero3, compile: true}",
            "hardware.compile = True: the weights that zero3 gathers on the way cannot be compiled",
        ),
        ("hardware.timeout_s=0", "hardware.timeout_s = 0.0: must be above 0"),
        ("lora.rank=-1", "lora.rank = -1: must be at least 0"),
        ("lora={rank: 4, alpha: 0}", "lora.alpha = 0.0: must be above 0"),
        ("lora={rank: 4, dropout: 1}", "lora.dropout = 1.0: must be at least 0 and below 1"),
        ("train.ema_decay=1", "train.ema_decay = 1.0: must be above 0 and below 1"),
        ("train.ema_decay=0", "train.ema_decay = 0.0: must be above 0 and below 1"),
        (f"{EVALUATION}.systems.diffusion.generation.length_beam=0", "must be at least 1"),
        # Parts that must fit.
        ("model.num_heads=5", "model.num_heads = 5: must divide model.hidden_size = 64"),
        ("length.num_heads=3", "length.num_heads = 3: must divide 64, the hidden_size of"),
        ("validation.metric=perplexity", "is no likelihood bound"),
        ("validation.metric=nll", "evaluate a task of kind perplexity instead"),
        ("evaluation.likelihood.samples=0", "must be at least 1"),
        ("train.micro_batch_size=3", "must be a multiple of micro_batch_size 3"),
        ("hardware.devices=3", "a multiple of devices 3 x num_nodes 1 = 3, such as 6 or 9"),
        ("optim.warmup_steps=101", "more than train.steps = 100"),
        ("data.max_length=513", "longer than model.max_positions = 512"),
        ("validation={export: best}", "more than train.steps = 100: nothing to choose from"),
        (f"{EVALUATION}.compare=[[diffusion, left]]", "'left': no system is called so"),
        (f"{EVALUATION}.compare=[[diffusion]]", "must be a pair of systems"),
        (f"{EVALUATION}.only={{difusion: [words]}}", "did you mean 'diffusion'?"),
        (f"{EVALUATION}.only={{diffusion: [word]}}", "did you mean 'words'?"),
        ("stages.adapt.data={canvas_length: 510}", "no room for a prompt in data.max_length = 512"),
        ("stages.adapt.data={canvas_length: 0}", "canvas_length = 0: must be at least 1"),
        (f"{EVALUATION}.systems.diffusion.generation.canvas_length=0", "must be at least 1"),
        (
            f"{EVALUATION}.systems.diffusion.generation={{end_last: true}}",
            "systems.diffusion.generation.end_last = True: ignored setting: with generation.length"
            " = predicted there is no canvas",
        ),
        (
            f"{EVALUATION}.systems.diffusion.generation={{length: oracle, canvas_length: 8}}",
            "diffusion.generation.canvas_length = 8: ignored setting: with generation.length = ora",
        ),
        (
            f"{EVALUATION}.systems.diffusion.generation.length=canvas",
            "systems.diffusion.model = 'length': was not trained with a canvas: give that stage",
        ),
        ("name=a/b", "name = 'a/b': it names a folder"),
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


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_every_precision_is_read_but_16_mixed_needs_a_gpu(chain: Path, precision: str) -> None:
    chosen = f"train.precision={precision}"
    assert load_recipe(chain, [chosen]).stages["adapt"].train.precision == precision
    on_cpu = [chosen, "hardware.accelerator=cpu"]
    if precision == "16-mixed":
        expected = r"needs a GPU, and hardware\.accelerator is cpu; use bf16-mixed or 32-true"
        with pytest.raises(UserError, match=expected):
            load_recipe(chain, on_cpu)
    else:
        load_recipe(chain, on_cpu)


def test_a_fresh_head_may_stand_above_the_stages_that_go_on_with_it(write: Write) -> None:
    recipe = load_recipe("instruct/heldout-sentiment-minilm")
    assert recipe.stages["tune"].model.fresh_head and recipe.stages["tune"].init_from == "pretrain"
    assert load_recipe(write(resolved_yaml(recipe), "resolved.yaml")) == recipe


def test_settings_of_adapters_may_stand_above_a_stage_that_uses_them(chain: Path) -> None:
    shared = ["lora={alpha: 16, targets: [query]}", "stages.adapt.lora={rank: 4}"]
    stages = load_recipe(chain, shared).stages
    assert (stages["adapt"].lora.rank, stages["adapt"].lora.alpha) == (4, 16)
    assert not stages["pretrain"].lora.rank
    off = load_recipe(chain, ["lora={rank: 4, alpha: 16}", "stages.pretrain.lora={rank: 0}"])
    assert off.stages["pretrain"].lora.rank == 0


def test_export_best_needs_validation_data(chain: Path) -> None:
    overrides = ["data.validation=[]", "validation={export: best, every_n_steps: 10}"]
    with pytest.raises(UserError, match=r"needs data\.validation to choose by"):
        load_recipe(chain, overrides)
    load_recipe(chain, overrides[1:])


def test_a_resolved_recipe_with_canvases_is_read_back(chain: Path, write: Write) -> None:
    """What stages inherit is written under each of them, and ignored by some of them."""
    recipe = load_recipe(chain, [
        "data.canvas_length=32", "objective.canvas_padding=first_end_only",
        "generation.canvas_length=16", "generation.end_last=true",
        "stages.adapt.generation.length=oracle",
    ])  # fmt: skip
    assert recipe.stages["adapt"].data.canvas_length == 32
    assert load_recipe(write(resolved_yaml(recipe), "resolved.yaml")) == recipe


def test_a_canvas_is_a_whole_number_of_blocks_where_it_is_decoded(chain: Path) -> None:
    canvas, blocks = (
        "stages.adapt.data={canvas_length: 32}",
        "stages.adapt.generation.block_length=5",
    )
    with pytest.raises(UserError, match="block_length = 5: must divide the canvas of 32 tokens"):
        load_recipe(chain, [canvas, blocks])
    load_recipe(chain, [canvas, blocks, "stages.adapt.generation.canvas_length=30"])
    load_recipe(chain, [canvas, blocks, "stages.adapt.generation.length=oracle"])
    with pytest.raises(UserError, match="= oracle there is no canvas to decode"):
        generation = "stages.adapt.generation={length: oracle, canvas_length: 30}"
        load_recipe(chain, [canvas, generation])


def test_a_least_length_fits_the_canvas(chain: Path) -> None:
    canvas = "stages.adapt.data={canvas_length: 32}"
    load_recipe(chain, [canvas, "stages.adapt.generation.min_length=32"])
    with pytest.raises(UserError, match="min_length = 33: longer than the canvas of 32 tokens"):
        load_recipe(chain, [canvas, "stages.adapt.generation.min_length=33"])
    system = f"{EVALUATION}.systems.diffusion.generation"
    oracle = f"{system}={{length: oracle, min_length: 3}}"
    with pytest.raises(UserError, match="min_length = 3: ignored setting"):
        load_recipe(chain, [oracle])


def test_what_holds_ends_back_is_in_the_fingerprint_where_it_is_set(chain: Path) -> None:
    plain = semantic_config(load_recipe(chain).stages["adapt"])["generation"]
    assert not {"min_length", "end_penalty"} & set(plain)
    asked = load_recipe(chain, ["generation.min_length=3", "generation.end_penalty=0.5"])
    found = semantic_config(asked.stages["adapt"])["generation"]
    assert found == plain | {"min_length": 3, "end_penalty": 0.5}


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
    for key in (*RANGE_OF, *checks._KINDS_OF_SETTING):
        section, _, setting = key.rpartition(".")
        assert hasattr(attrgetter(section)(recipe), setting)


BOTH = "{path: a, holdout: {share: 0.1}}"


@pytest.mark.parametrize(
    ("train", "validation", "leaks"),
    [
        (BOTH, BOTH, False),
        ("{path: a, holdout: {share: 0.2}}", BOTH, True),
        ("{path: a, holdout: {share: 0.1, by: [src]}}", BOTH, True),
        ("{path: a, holdout: {share: 0.1, part: validation}}", BOTH, True),
        ("{path: a}", BOTH, True),
        (BOTH, "{path: a}", True),
        ("{path: b}", BOTH, False),
        ("{path: a}", "{path: a}", False),
        ("{hub: a/b}", "{hub: a/b, split: train, holdout: {share: 0.1}}", True),
        ("{hub: a/b, split: test}", "{hub: a/b, holdout: {share: 0.1}}", False),
    ],
)
def test_held_out_rows_must_not_be_trained_on(
    train: str, validation: str, leaks: bool, chain: Path
) -> None:
    overrides = [
        f"stages.adapt.data.train=[{train}]",
        f"stages.adapt.data.validation=[{validation}]",
    ]
    if not leaks:
        load_recipe(chain, overrides)
        return
    with pytest.raises(UserError) as refused:
        load_recipe(chain, overrides)
    assert "adapt.data.validation[0]: data.train[0] reads the same set, and not" in str(
        refused.value
    )
    assert "give both the same holdout (share, by), and no part" in str(refused.value)


def test_a_source_shows_only_what_it_says(chain: Path) -> None:
    both = ["data.train=[{path: a, holdout: {share: 0.1}}]", "data.validation=[{path: b}]"]
    shown = resolved_yaml(load_recipe(chain, both))
    assert "holdout:\n" in shown and "share: 0.1" in shown
    for word in ("streaming", "unquoted", "columns", "by:", "part:", "id_field"):
        assert word not in shown
