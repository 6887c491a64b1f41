"""The network and tokenizer that a stage starts from."""

from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from transformers import PreTrainedTokenizerBase

from dlm.errors import UserError
from dlm.generation.model import Description, read_description, say_unchecked
from dlm.models.added_tokens import add_missing_tokens, name_missing_tokens
from dlm.models.attention.annealing import Annealing
from dlm.models.backbone import Backbone
from dlm.models.build import build_from_scratch, load_backbone, load_config, load_tokenizer
from dlm.models.families import is_causal
from dlm.models.fresh_head import FreshHead
from dlm.models.lora import LoraSettings, add_adapters, embedding_is_trained
from dlm.models.positions import position_offset, positions
from dlm.models.vocabulary import CutVocabulary, cut_network, tokens_sha256
from dlm.places import place_of
from dlm.tokens.special import SpecialTokens
from dlm.tokens.text_form import set_form
from dlm.training.job import StageJob
from dlm.training.vocabulary import cut_to_rows


@dataclass(frozen=True)
class StartingPoint:
    """What a stage begins with."""

    backbone: Backbone
    tokenizer: PreTrainedTokenizerBase
    special: SpecialTokens
    directory: Path | None
    """Where the weights came from, if from a directory on disk."""
    name: str = ""
    """Directory or hub name that the weights came from."""
    cut: CutVocabulary | None = None
    """How the vocabulary is made whole again, where this stage or an earlier one cut it."""


def starting_point(job: StageJob) -> StartingPoint:
    """Weights and tokenizer from an earlier stage, a Hugging Face model, or from scratch.

    Raises:
        UserError: They cannot be loaded or do not fit together.
    """
    model = job.config.model
    source = job.config.init_from or model.pretrained
    if source is None:
        assert job.config.tokenizer is not None, "checked when the recipe was read"
        tokenizer = load_tokenizer(
            _place(job, job.config.tokenizer), trust_remote_code=model.trust_remote_code
        )
        backbone = build_from_scratch(
            tokenizer, architecture=model.architecture, hidden_size=model.hidden_size,
            num_layers=model.num_layers, num_heads=model.num_heads,
            intermediate_size=model.intermediate_size, max_positions=model.max_positions,
            dropout=model.dropout, initializer_range=model.initializer_range, seed=job.seed,
        )  # fmt: skip
        special = SpecialTokens.of(tokenizer)
        _set_attention(job, backbone, special, None)
        _set_adapters(job, backbone, added=False)
        return StartingPoint(backbone, tokenizer, special, None)
    place = _place(job, source)
    fresh = model.fresh_head and job.config.init_from is None
    backbone = load_backbone(
        place, revision=model.revision, dropout=model.dropout,
        trust_remote_code=model.trust_remote_code,
        fresh_head=FreshHead(job.seed, lambda note: _say(f"{job.name}: {note}")) if fresh else None,
    )  # fmt: skip
    tokenizer = load_tokenizer(
        place, revision=model.revision, fits=backbone.network.config,
        trust_remote_code=model.trust_remote_code,
    )  # fmt: skip
    added = _given_tokens(job, backbone, tokenizer)
    directory = Path(place) if Path(place).is_dir() else None
    if directory is not None:
        say_unchecked(directory)
    cut = None if directory is None else CutVocabulary.read(directory)
    if _cuts_vocabulary(job):
        tokenizer, cut = _cut_vocabulary(job, backbone, tokenizer, place)
    if directory is not None:
        set_form(tokenizer, read_description(directory).text)
    special = SpecialTokens.of(tokenizer)
    _set_attention(job, backbone, special, directory)
    _set_adapters(job, backbone, added=added)
    return StartingPoint(backbone, tokenizer, special, directory, str(place), cut)


def starting_tokenizer(job: StageJob) -> tuple[PreTrainedTokenizerBase, int]:
    """The tokenizer of :func:`starting_point`, and its network's positions, without the weights.

    Raises:
        UserError: They cannot be loaded.
    """
    model = job.config.model
    source = job.config.init_from or model.pretrained
    if source is None:
        assert job.config.tokenizer is not None, "checked when the recipe was read"
        tokenizer = load_tokenizer(
            _place(job, job.config.tokenizer), trust_remote_code=model.trust_remote_code
        )
        return tokenizer, model.max_positions
    place = _place(job, source)
    config = load_config(place, revision=model.revision, trust_remote_code=model.trust_remote_code)
    tokenizer = load_tokenizer(
        place, revision=model.revision, fits=config, trust_remote_code=model.trust_remote_code
    )
    if is_causal(config.model_type) and job.config.kind != "length":
        name_missing_tokens(tokenizer)
    if _cuts_vocabulary(job):
        tokenizer, _ = cut_to_rows(job, tokenizer, first=position_offset(config))
    return tokenizer, positions(config)


def _given_tokens(job: StageJob, backbone: Backbone, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give a causal language model the tokens that it lacks, and say whether there were any. A
    length predictor's backbone stays as it is: it is to be one that was trained with a mask
    token."""
    if not backbone.causal or job.config.kind == "length":
        return False
    added = add_missing_tokens(tokenizer, backbone.network, seed=job.seed)
    if added:
        _say(
            f"{job.name}: {' and '.join(added)} added to the tokenizer, with random embeddings; "
            f"the vocabulary has {backbone.vocab_size} rows"
        )
    return bool(added)


def _cuts_vocabulary(job: StageJob) -> bool:
    # A length predictor's backbone stays as it is.
    return job.config.kind != "length" and job.config.model.vocabulary.keep == "used"


def _cut_vocabulary(
    job: StageJob, backbone: Backbone, tokenizer: PreTrainedTokenizerBase, place: str | Path
) -> tuple[PreTrainedTokenizerBase, CutVocabulary]:
    """Cut the network, in place, and the tokenizer to the tokens of the stage's rows.

    Raises:
        UserError: The rows cannot be read, or the tokenizer cannot be cut.
    """
    hashed = tokens_sha256(tokenizer)
    tokenizer, kept = cut_to_rows(job, tokenizer, first=backbone.position_offset)
    rows = cut_network(backbone.network, kept)
    source = str(Path(place).resolve()) if Path(place).is_dir() else str(place)
    return tokenizer, CutVocabulary(source, job.config.model.revision, rows, hashed, kept)


def _set_adapters(job: StageJob, backbone: Backbone, *, added: bool) -> None:
    """Low-rank adapters, where the stage trains them in place of the network.

    Raises:
        UserError: They are to go where there is nothing.
    """
    lora = job.config.lora
    if job.config.kind == "length" or not lora.rank:
        return
    settings = LoraSettings(lora.rank, lora.alpha, lora.dropout, lora.targets, lora.train_also)
    _say(f"{job.name}: {add_adapters(backbone.network, settings, seed=job.seed)}")
    if added and not embedding_is_trained(backbone.network):
        _say(
            f"{job.name}: the added tokens keep their random embeddings: lora.train_also does not "
            "name the input embedding"
        )


def _set_attention(
    job: StageJob, backbone: Backbone, special: SpecialTokens, directory: Path | None
) -> None:
    """Who sees whom in this stage.

    Raises:
        UserError: The recipe anneals a network that is bidirectional already.
    """
    kind, model = job.config.kind, job.config.model
    said = Description() if directory is None else read_description(directory)
    backbone.end_token_id = special.end
    if said.shifted is not None:
        backbone.shifted = said.shifted
    backbone.response_positions = said.response_positions
    diffusion = said.ours and said.kind == "diffusion"
    if kind == "length":
        backbone.attention = said.attention
    elif kind in ("adapt", "instruct"):
        backbone.attention = model.attention
        if diffusion and said.attention not in (model.attention, "bidirectional"):
            _say(
                f"{job.name}: attention changes from {said.attention}, with which the model it "
                f"starts from was trained, to model.attention={model.attention}"
            )
    steps = model.attention_annealing_steps
    if not steps or kind not in ("pretrain", "adapt", "instruct"):
        return
    if not backbone.causal:
        raise UserError(
            f"model.attention_annealing_steps={steps}: a model of type "
            f"'{backbone.network.config.model_type}' is bidirectional from the start; set it to 0"
        )
    if diffusion:
        _say(f"{job.name}: the model it starts from is bidirectional already: nothing to anneal")
    else:
        backbone.annealing = Annealing(steps, job.seed)


def _say(note: str) -> None:
    rank_zero_only(print)(note, flush=True)


def _place(job: StageJob, name: str) -> str | Path:
    return job.exports.get(name) or place_of(name)
