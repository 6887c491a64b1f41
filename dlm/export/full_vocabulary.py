"""A model whose vocabulary was cut for its task, written with the whole one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from dlm.errors import StageFailed, UserError
from dlm.generation.model import backbone_fingerprint
from dlm.models.added_tokens import add_missing_tokens
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone, load_tokenizer
from dlm.models.families import family_of
from dlm.models.length_predictor import has_length_predictor, load_length_predictor
from dlm.models.sums import SUMS
from dlm.models.vocabulary import RECORD, CutVocabulary, cut_rows_sha256, put_back, tokens_sha256

_REPLACED = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
    "tokenizer*", "special_tokens_map.json", "length_predictor*", RECORD, SUMS,
)  # fmt: skip
"""Files of a cut model that the whole one has of its own, or lacks."""


def write_full_vocabulary(directory: Path, target: Path, *, source: str | None = None,
                          trust_remote_code: bool = False) -> str:  # fmt: skip
    """Write a model with the vocabulary of the one that it began with.

    The rows that it kept are its own, the others those of the model that was cut, bit by bit; the
    tokenizer is that model's. A length predictor goes with it.

    Args:
        directory: an export.
        target: a directory that is not there yet.
        source: where the model lies that was cut; None: where it was then.
        trust_remote_code: run code that comes with either of them.

    Returns:
        What was put back, in words.

    Raises:
        UserError: Nothing was cut, or the model that was cut is another one now.
    """
    if CutVocabulary.read(directory) is None:
        raise UserError(
            f"{directory} has its whole vocabulary ({RECORD} is not there): leave out "
            "--full-vocabulary"
        )
    kept = load_backbone(directory, trust_remote_code=trust_remote_code)
    whole, tokenizer = kept, load_tokenizer(directory, trust_remote_code=trust_remote_code)
    # A stage may have cut what an earlier one had cut already.
    for record, place in _cuts(directory, source):
        cut = whole
        whole, tokenizer = _model_that_was_cut(record, place, trust_remote_code)
        put_back(whole.network, cut.network, record.kept)
        for name in family_of(cut.network.config).dropouts:
            setattr(whole.network.config, name, getattr(cut.network.config, name))
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    whole.save(partial)
    tokenizer.save_pretrained(partial)
    replaced = {path.name for pattern in _REPLACED for path in directory.glob(pattern)}
    for path in directory.iterdir():
        if path.is_file() and path.name not in replaced:
            shutil.copy2(path, partial / path.name)
    reopened = load_backbone(partial, trust_remote_code=trust_remote_code).state_dict()
    for name, tensor in whole.state_dict().items():
        if not torch.equal(reopened[name], tensor):
            raise StageFailed(f"{partial} does not read back: {name} differs")
    if has_length_predictor(directory):
        # It reads hidden states, which have not changed: it belongs to this backbone as well.
        predictor = load_length_predictor(directory, backbone_fingerprint(directory))
        predictor.save(partial, backbone_fingerprint(partial))
    partial.rename(target)
    return f"{whole.vocab_size:,} tokens of which {kept.vocab_size:,} were trained"


def _cuts(directory: Path, source: str | None) -> Iterator[tuple[CutVocabulary, str]]:
    """What was cut, and where it lies, from the last cut to the first."""
    record = CutVocabulary.read(directory)
    while record is not None:
        place = source or record.source
        yield record, place
        source, record = None, CutVocabulary.read(Path(place))


def _model_that_was_cut(
    record: CutVocabulary, place: str, trust_remote_code: bool
) -> tuple[Backbone, PreTrainedTokenizerBase]:
    """The whole model as the stage had it, the tokens that it was given included.

    Raises:
        UserError: It cannot be loaded, or is not the one that was cut.
    """
    try:
        backbone = load_backbone(
            place, revision=record.revision, trust_remote_code=trust_remote_code
        )
        tokenizer = load_tokenizer(
            place, revision=record.revision, trust_remote_code=trust_remote_code
        )
    except UserError as error:
        raise UserError(
            f"the vocabulary was cut from the model in {place}: {error}. Give --source the "
            "directory where it lies now"
        ) from error
    if backbone.causal:
        # Their rows are kept ones, so whatever is drawn here is replaced.
        add_missing_tokens(tokenizer, backbone.network, seed=0)
    same = (
        tokens_sha256(tokenizer) == record.tokens_sha256
        and max(record.kept) < backbone.vocab_size
        and cut_rows_sha256(backbone.network, record.kept) == record.rows_sha256
    )
    if not same:
        raise UserError(
            f"{place} is not the model whose vocabulary was cut (its tokens or their weights "
            "differ): give --source the directory where that one lies"
        )
    return backbone, tokenizer
