"""An exported model, opened for use."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import PreTrainedTokenizerBase

from dlm.data.prompt_forms import PromptForm
from dlm.data.rows.encoding import encode_prompts, encode_responses
from dlm.errors import UserError, reason_of
from dlm.models.attention.masks import AttentionPattern
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone, load_tokenizer
from dlm.models.length_predictor import (
    LengthPredictor,
    has_length_predictor,
    load_length_predictor,
)
from dlm.models.positions import CONTINUED, ResponsePositions
from dlm.models.sums import file_sum, recorded_sums
from dlm.places import place_of
from dlm.saying import say_once
from dlm.tokens.special import SpecialTokens
from dlm.tokens.text_form import FORMS, USUAL, TextForm, set_form

DESCRIPTION_FILE = "dlm.json"
DESCRIPTION_FORMAT = 2
"""2 says where responses stand; in 1 they follow their prompts."""
ModelKind = Literal["diffusion", "autoregressive"]


@dataclass(frozen=True)
class GenerativeModel:
    """A network with its tokenizer and what says how long an answer is, if anything does."""

    backbone: Backbone
    tokenizer: PreTrainedTokenizerBase
    special: SpecialTokens
    kind: ModelKind
    length_predictor: LengthPredictor | None = None
    canvas_length: int | None = None
    """Tokens of the canvas it was trained with; None: it was not."""
    texts: bool = False
    """An autoregressive model of texts: a prompt is how a text begins, and may be empty."""

    def heads(self, prompts: Sequence[str]) -> list[list[int]]:
        """What stands before each answer: begin prompt end, or begin and the text so far."""
        if not self.texts:
            return encode_prompts(self.tokenizer, prompts)
        return [[self.special.begin, *ids] for ids in encode_responses(self.tokenizer, prompts)]

    def behind_prompts(self, valid_BL: torch.Tensor, head_B: torch.Tensor) -> torch.Tensor:
        """Which tokens of rows with heads of this many are read from left to right, bool [B, L]: of
        a text all behind its begin token, else what is behind the head."""
        column_L = torch.arange(valid_BL.shape[1], device=valid_BL.device)
        first_B = torch.ones_like(head_B) if self.texts else head_B
        return valid_BL & (column_L >= first_B[:, None])

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.backbone.parameters()).device

    @property
    def forbidden_ids(self) -> torch.Tensor:
        """Tokens that are never generated: every special one, and rows of the output layer that
        the tokenizer does not know."""
        beyond = range(len(self.tokenizer), self.backbone.vocab_size)
        return torch.tensor([*sorted(self.tokenizer.all_special_ids), *beyond], device=self.device)

    @property
    def forbidden_ids_on_canvas(self) -> torch.Tensor:
        """The same without the end token, which ends an answer there."""
        forbidden = self.forbidden_ids
        return forbidden[forbidden != self.special.end]


def open_model(
    place: str | Path, *, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> GenerativeModel:
    """Open an export of ours, any Hugging Face directory or a hub name.

    Raises:
        UserError: It cannot be loaded, or its length predictor belongs to another backbone.
    """
    place = place_of(place)
    directory = Path(place)
    backbone = load_backbone(place, trust_remote_code=trust_remote_code).eval().to(device)
    tokenizer = load_tokenizer(
        place, fits=backbone.network.config, trust_remote_code=trust_remote_code
    )
    special = SpecialTokens.of(tokenizer)
    said = read_description(directory)
    set_form(tokenizer, said.text)
    say_unchecked(directory)
    backbone.attention, backbone.end_token_id = said.attention, special.end
    backbone.shifted = backbone.causal if said.shifted is None else said.shifted
    backbone.response_positions = said.response_positions
    predictor = None
    if has_length_predictor(directory):
        predictor = load_length_predictor(directory, backbone_fingerprint(directory)).to(device)
    return GenerativeModel(
        backbone, tokenizer, special, said.kind, predictor, said.canvas_length, said.texts
    )


def say_unchecked(directory: Path) -> None:
    """Say, once, that an export of ours was written before exports had their files' hashes."""
    ours = (directory / DESCRIPTION_FILE).exists()
    if ours and recorded_sums(directory.resolve()) is None:
        say_once(
            directory,
            f"{directory} was written without hashes of its files: it is opened unchecked "
            "(`dlm export` writes a copy that has them)",
            about="hashes",
        )


def backbone_fingerprint(directory: Path) -> str:
    """Hash of a directory's network weights."""
    files = sorted(p for p in directory.glob("model*.safetensors"))
    if not files:
        raise UserError(f"{directory} holds no model*.safetensors: give a model directory")
    return hashlib.sha256("".join(map(file_sum, files)).encode()).hexdigest()


@dataclass(frozen=True)
class Description:
    """What stands beside the weights of an export of ours."""

    kind: ModelKind = "diffusion"
    """How the network generates."""
    attention: AttentionPattern = "bidirectional"
    """Who sees whom."""
    shifted: bool | None = None
    """Whether the state of the token before fills in a token; None: as the network is made."""
    canvas_length: int | None = None
    """Tokens of the canvas that it was trained with, if it was."""
    response_positions: ResponsePositions | None = None
    """Where responses stand; None: the network has seen none."""
    texts: bool = False
    """Whether an autoregressive model was trained on texts, without prompts."""
    text: TextForm = USUAL
    """How tokens become text."""
    generation: dict[str, Any] | None = None
    """The settings that its stage generated with, where ``dlm export`` wrote them."""
    prompts: tuple[PromptForm, ...] = ()
    """How the prompts of its last stage of training were worded; empty where that is not known."""
    ours: bool = False
    """Whether it was read at all: False of a plain Hugging Face directory."""


def write_kind(
    directory: Path,
    kind: ModelKind,
    objective: str,
    *,
    attention: AttentionPattern = "bidirectional",
    shifted: bool | None = None,
    canvas_length: int | None = None,
    response_positions: ResponsePositions | None = None,
    texts: bool = False,
    prompts: Sequence[PromptForm] = (),
    text: TextForm = USUAL,
) -> None:
    """Say beside the weights how the network generates and what it was trained with."""
    description: dict[str, Any] = {
        "format": DESCRIPTION_FORMAT, "kind": kind, "objective": objective, "attention": attention,
        "shifted": shifted, "canvas_length": canvas_length,
        "response_positions": response_positions and response_positions.as_json(),
    }  # fmt: skip
    if texts:
        description["texts"] = True
    if text != USUAL:
        description["text"] = asdict(text)
    if prompts:
        description["prompts"] = [asdict(form) for form in prompts]
    (directory / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")


def read_description(directory: Path) -> Description:
    """What is said beside the weights; a plain Hugging Face directory is read as diffusion.

    Raises:
        UserError: It was written by a newer version of dlm.
    """
    path = directory / DESCRIPTION_FILE
    if not path.exists():
        return Description()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
        return _described(path, values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({reason_of(error)}): take it from where it was written, or export "
            "the model again"
        ) from error


def _described(path: Path, values: dict[str, Any]) -> Description:
    if (found := values.get("format", 1)) > DESCRIPTION_FORMAT:
        raise UserError(
            f"{path} has format {found}, and this version of dlm reads formats up to "
            f"{DESCRIPTION_FORMAT}: use the version of dlm that wrote it, or a newer one"
        )
    text = TextForm(**values.get("text", {}))
    for name, value, known in (
        ("attention", values.get("attention", "bidirectional"), get_args(AttentionPattern)),
        ("kind", values.get("kind", "diffusion"), get_args(ModelKind)),
        ("text", text, FORMS),
    ):
        if value not in known:
            raise UserError(
                f"{path} says {name}={values[name]}, which is not known here: use the version of "
                "dlm that wrote it"
            )
    names = ("kind", "attention", "shifted", "canvas_length", "texts", "generation")
    where = values.get("response_positions", CONTINUED.as_json())
    return Description(
        **{name: values[name] for name in names if name in values}, ours=True,
        response_positions=where and ResponsePositions.from_json(where),
        prompts=tuple(PromptForm(**form) for form in values.get("prompts", ())),
        text=text,
    )  # fmt: skip


def read_kind(directory: Path) -> ModelKind:
    """How the network generates; a plain Hugging Face directory is read as diffusion."""
    return read_description(directory).kind
