"""From a recipe to what a plan is made of: the last place here that knows a config type.

It reads no data and downloads nothing: lengths of rows are said by the caller, or the longest are
taken.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PretrainedConfig

from dlm.config.checks.data import tasks_of
from dlm.config.schema import RecipeConfig, StageConfig
from dlm.diffusion.noise import mask_rate
from dlm.errors import UserError
from dlm.models.build import load_tokenizer, scratch_config
from dlm.models.families import FAMILIES, is_causal
from dlm.models.outside import meta_network
from dlm.models.positions import positions
from dlm.places import place_of
from dlm.planning.batches import GlobalBatch, Rows
from dlm.planning.known_models import known_configurations, offline_config
from dlm.planning.memory import Load
from dlm.planning.parameters import count_parameters, meta_predictor
from dlm.planning.shapes import NetworkShape, network_shape
from dlm.planning.stage_plan import StageInputs
from dlm.tokens.special import SpecialTokens
from dlm.tokens.train import SPECIAL_TOKENS
from dlm.training.sources import masks_prompts

_CONDITIONAL_SHARE = 0.5
_GRID = 1000
_WHOLE = (
    "the vocabulary is counted whole: which tokens model.vocabulary.keep=used leaves is known once "
    "the rows are read"
)
TRAINED = ("pretrain", "adapt", "length", "instruct", "autoregressive")


@dataclass(frozen=True)
class KnownRows:
    """What the caller knows of a recipe's rows."""

    tokens: float | None = None
    """Mean tokens of a row; None: as many as the longest may have."""
    response_share: float | None = None
    """Share of them that noise may hit: the response. None: a half; of texts and in pretraining
    all."""


def stage_inputs(recipe: RecipeConfig, name: str, known: KnownRows) -> StageInputs:
    """One training stage.

    Raises:
        UserError: Its network's configuration is not on this machine, or too short for its rows.
    """
    stage = recipe.stages[name]
    config, model, notes = _network(recipe, stage)
    length = min(stage.data.max_length, positions(config))
    rows = _rows(stage, known, length)
    shape = network_shape(config, stage.model.dropout)
    network = meta_network(config, trust_remote_code=stage.model.trust_remote_code)
    predictor = (
        meta_predictor(
            shape.hidden, max_length=stage.length.max_response_length or length,
            num_heads=stage.length.num_heads, relative=stage.length.relative,
        )
        if stage.kind == "length"
        else None
    )  # fmt: skip
    train = stage.train
    packed = stage.kind != "length" and _packs(stage, shape)
    if is_causal(config.model_type) and stage.kind != "length":
        notes.append("rows of tokens that a causal model is given (mask, pad) are not counted")
    return StageInputs(
        name=name,
        kind=stage.kind,
        model=model,
        load=Load(
            count_parameters(network, predictor), shape, train.precision,
            label_smoothing=train.label_smoothing > 0,
        ),
        rows=rows,
        batch=GlobalBatch(
            train.batch_rows, train.global_batch_tokens, packed=packed,
            grouped=train.length_grouping > 0 and stage.kind != "length" and not packed,
        ),
        width=length,
        steps=train.steps,
        micro_rows=train.micro_batch_size,
        micro_tokens=train.micro_batch_tokens,
        notes=tuple(notes),
    )  # fmt: skip


def _packs(stage: StageConfig, shape: NetworkShape) -> bool:
    """Whether rows are packed on a GPU (training/layout.py chooses where the network is)."""
    if stage.train.layout != "auto":
        return stage.train.layout == "packed"
    sees_all = stage.kind != "autoregressive" and stage.model.attention == "bidirectional"
    annealed = bool(stage.model.attention_annealing_steps)
    half = stage.train.precision != "32-true"
    own = FAMILIES[shape.model_type].own_attention is not None
    return sees_all and not annealed and half and not shape.attention_dropout and not own


def _network(recipe: RecipeConfig, stage: StageConfig) -> tuple[PretrainedConfig, str, list[str]]:
    """The network's configuration, its name, and what was assumed."""
    source, revision = stage.init_from or stage.model.pretrained, stage.model.revision
    cut = [_WHOLE] if stage.kind != "length" and stage.model.vocabulary.keep == "used" else []
    if source is not None and source in recipe.stages:
        config, name, notes = _network(recipe, recipe.stages[source])
        return config, name, list(dict.fromkeys(notes + cut))
    if source is not None:
        trusted = stage.model.trust_remote_code
        config = offline_config(source, revision=revision, trust_remote_code=trusted)
        return config, source, cut
    model = stage.model
    vocabulary, pad, begin, end, notes = _vocabulary(recipe, stage)
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "intermediate_size": model.intermediate_size or 4 * model.hidden_size,
        "pad_token_id": pad,
        "bos_token_id": begin,
        "eos_token_id": end,
    }
    dropout = 0.1 if model.dropout is None else model.dropout
    config = scratch_config(model.architecture, sizes, model.max_positions, dropout)
    return config, f"{model.architecture} from scratch", notes


def _vocabulary(
    recipe: RecipeConfig, stage: StageConfig
) -> tuple[int, int, int, int, list[str]]:  # fmt: skip
    """Size of the vocabulary, and the ids of its pad, begin and end tokens."""
    name = stage.tokenizer
    assert name is not None, "checked when the recipe was read"
    if name in recipe.stages:
        other = recipe.stages[name]
        if other.kind != "tokenizer":
            return _vocabulary_of_model(_network(recipe, other)[0])
        special = list(SPECIAL_TOKENS)
        ids = [special.index(f"{token}_token") for token in ("pad", "bos", "eos")]
        size = other.tokenizer_training.vocab_size
        note = f"a vocabulary of {size:,}, as stage {name} is to train (it may come out smaller)"
        return size, *ids, [note]  # type: ignore[return-value]
    name = place_of(name)
    if Path(name).is_dir():
        tokenizer = load_tokenizer(name, trust_remote_code=stage.model.trust_remote_code)
        tokens = SpecialTokens.of(tokenizer)
        return len(tokenizer), tokens.pad, tokens.begin, tokens.end, []
    if name in known_configurations():
        # All sizes of XLM-R have BASE's tokenizer; XL and XXL have spare rows besides.
        return _vocabulary_of_model(offline_config("FacebookAI/xlm-roberta-base"))
    raise UserError(
        f"the tokenizer '{name}' is not a directory, and nothing is downloaded for a plan: give a "
        f"local Hugging Face directory; known without the hub: {', '.join(known_configurations())}"
    )


def _vocabulary_of_model(config: PretrainedConfig) -> tuple[int, int, int, int, list[str]]:
    return (
        int(config.vocab_size), int(config.pad_token_id or 0), int(config.bos_token_id or 0),
        int(config.eos_token_id or 0), [],
    )  # fmt: skip


def _rows(stage: StageConfig, known: KnownRows, longest: int) -> Rows:
    """Lengths and noise of a stage's rows.

    Raises:
        UserError: Rows are said to be longer than the stage lets them be.
    """
    mean = longest if known.tokens is None else known.tokens
    if not 1 <= mean <= longest:
        raise UserError(
            f"--row-tokens {mean:g}: rows have from 1 to {longest} tokens (data.max_length)"
        )
    share = known.response_share
    if share is None:
        canvas = stage.data.canvas_length
        whole = masks_prompts(stage) or tasks_of(stage) == {"text"}
        share = 1.0 if whole else min(1.0, canvas / mean) if canvas else _CONDITIONAL_SHARE
    objective = stage.objective
    if stage.kind in ("autoregressive", "length"):
        return Rows(longest, mean, share)
    if objective.mask_rate is not None:
        return Rows(longest, mean, share, objective.mask_rate)
    count = objective.num_timesteps if objective.time == "discrete" else _GRID
    rates = mask_rate(objective.schedule, torch.arange(1, count + 1) / count)
    low, high = objective.rate_range
    rates = rates[(rates >= low - 1e-6) & (rates <= high + 1e-6)]
    return Rows(
        longest, mean, share, float(rates.mean()), float(rates.std(correction=0)),
        copies=2 if objective.times in (None, "coupled") else 1,
    )  # fmt: skip
