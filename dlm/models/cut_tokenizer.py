"""A tokenizer cut to some of its tokens, which splits text made of them as the whole one does.

Why it does, for the three algorithms that can be cut. WordPiece takes the longest prefix that it
knows: with fewer words it takes the same one, as long as that one is kept. Unigram takes the most
likely way: ways that fall away leave the best one the best, as long as the least likely piece, from
which the price of an unknown character is computed, is kept too. BPE applies the first merge that
fits: it goes the same way, as long as everything that a kept token is merged from is kept.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from dlm.errors import UserError
from dlm.models.outside import open_tokenizer

_ALGORITHMS = ("WordPiece", "Unigram", "BPE")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_JSON = "tokenizer.json"
_CONFIG = "tokenizer_config.json"
_WITHOUT_IDS = (_CONFIG, "special_tokens_map.json", "chat_template.jinja")


@dataclass(frozen=True)
class KeptTokens:
    """Which tokens are kept, and why."""

    ids: tuple[int, ...]
    """In the whole vocabulary, ascending: a token's new id is its place here."""
    counts: dict[str, int]
    """Reason in words -> tokens that no earlier reason keeps."""


def tokens_to_keep(
    tokenizer: PreTrainedTokenizerBase,
    used: Collection[int],
    *,
    characters: bool,
    first: int = 0,
) -> KeptTokens:
    """The tokens without which text made of ``used`` ones would be split otherwise.

    Args:
        tokenizer: the whole one.
        used: ids that occur.
        characters: keep every token of one character, so that new words can be spelled.
        first: this many first ids stay as they are (position ids may count from the pad token's).

    Raises:
        UserError: The tokenizer is of a kind that cannot be cut.
    """
    state = _state(tokenizer)
    model, vocabulary = state["model"], _vocabulary(state)
    kept: set[int] = set()
    counts: dict[str, int] = {}

    def keep(reason: str, ids: Iterable[int]) -> None:
        new = set(ids) - kept
        kept.update(new)
        if new:
            counts[reason] = len(new)

    keep("special", [*range(first), *tokenizer.all_special_ids, *_special(state, vocabulary)])
    keep("that occur", used)
    if _byte_level(state):
        keep(
            "bytes", (vocabulary[b] for b in pre_tokenizers.ByteLevel.alphabet() if b in vocabulary)
        )
    if model.get("byte_fallback"):
        keep("bytes", (id_ for token, id_ in vocabulary.items() if _BYTE.fullmatch(token)))
    if characters or tokenizer.unk_token_id is None:
        keep("of one character", _single(model, vocabulary))
    if model["type"] == "Unigram":
        keep("for the price of unknown characters", [_least_likely(model)])
    if model["type"] == "BPE":
        keep("that others are merged from", _merged_from(model, vocabulary, kept))
    return KeptTokens(tuple(sorted(kept)), counts)


def cut_tokenizer(
    tokenizer: PreTrainedTokenizerBase, kept: Sequence[int]
) -> PreTrainedTokenizerBase:
    """The tokenizer that knows these ids alone, ascending, numbered by their places.

    Raises:
        UserError: It cannot be cut so; the message says what does not fit.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    state = _cut_state(_state(tokenizer), new_ids)
    with TemporaryDirectory(prefix="dlm-tokenizer-") as name:
        directory = Path(name)
        tokenizer.save_pretrained(directory)
        for path in directory.iterdir():
            # Files of the whole vocabulary, which a tokenizer's own class might prefer.
            if path.name not in _WITHOUT_IDS:
                path.unlink()
        (directory / _JSON).write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        _cut_config(directory / _CONFIG, new_ids)
        cut = open_tokenizer(directory, trust_remote_code=False)
    cut.name_or_path = tokenizer.name_or_path
    if tokenizer.unk_token is None:
        cut.unk_token = None  # GPT-2's class names one that it does not need
    before, after = tokenizer.convert_ids_to_tokens(list(kept)), tokens_of(cut)
    if before != after:
        place = next((i for i, pair in enumerate(zip(before, after, strict=False))
                      if pair[0] != pair[1]), min(len(before), len(after)))  # fmt: skip
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path} cannot be cut: token {place} of "
            f"{len(kept)} that are kept would be another one. Set model.vocabulary.keep=full"
        )
    return cut


def tokens_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every token in the order of its id."""
    return list(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))


def _state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The file of the `tokenizers` library.

    Raises:
        UserError: There is none, or its algorithm is not known here.
    """
    kind = type(tokenizer).__name__
    if tokenizer.is_fast:
        state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        kind = state["model"]["type"]
        if kind in _ALGORITHMS:
            return state
    raise UserError(
        f"model.vocabulary.keep=used: a tokenizer of kind {kind} cannot be cut, only those of the "
        f"tokenizers library with {', '.join(_ALGORITHMS)}: set it to full"
    )


def _vocabulary(state: dict[str, Any]) -> dict[str, int]:
    """Token -> id, without added tokens that the model itself does not know."""
    vocabulary = state["model"]["vocab"]
    if state["model"]["type"] == "Unigram":
        return {piece: id_ for id_, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _special(state: dict[str, Any], vocabulary: dict[str, int]) -> set[int]:
    """Added tokens, those that the post-processor puts around a text, and the unknown one."""
    ids = {entry["id"] for entry in state["added_tokens"]} | set(_processor_ids(state))
    model = state["model"]
    unknown = model.get("unk_id")
    if unknown is None:
        unknown = vocabulary.get(model.get("unk_token"))
    return ids if unknown is None else ids | {unknown}


def _byte_level(state: dict[str, Any]) -> bool:
    return '"type": "ByteLevel"' in json.dumps([state["pre_tokenizer"], state["decoder"]])


def _single(model: dict[str, Any], vocabulary: dict[str, int]) -> list[int]:
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    return [
        id_
        for token, id_ in vocabulary.items()
        if len(token) == 1 or len(token.removeprefix(prefix).removesuffix(suffix)) == 1
    ]


def _least_likely(model: dict[str, Any]) -> int:
    scores = [score for _, score in model["vocab"]]
    return scores.index(min(scores))


def _merged_from(
    model: dict[str, Any], vocabulary: dict[str, int], kept: Collection[int]
) -> set[int]:
    """Every token on a way of merges to a kept one."""
    parts: dict[int, list[int]] = defaultdict(list)
    for left, right, result in _merges(model):
        parts[vocabulary[result]] += [vocabulary[left], vocabulary[right]]
    found: set[int] = set()
    ahead = list(kept)
    while ahead:
        new = [part for part in parts.get(ahead.pop(), ()) if part not in found]
        found.update(new)
        ahead += new
    return found


def _merges(model: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Left part, right part, and what they become."""
    prefix = len(model.get("continuing_subword_prefix") or "")
    pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    return [(left, right, left + right[prefix:]) for left, right in pairs]


def _cut_state(state: dict[str, Any], new_ids: dict[int, int]) -> dict[str, Any]:
    model = state["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for id_, entry in enumerate(model["vocab"]) if id_ in new_ids]
        if model["unk_id"] is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
    else:
        model["vocab"] = {t: new_ids[id_] for t, id_ in model["vocab"].items() if id_ in new_ids}
    if model["type"] == "BPE":
        known = model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right, result in _merges(model)
            if left in known and right in known and result in known
        ]
    for entry in state["added_tokens"]:
        entry["id"] = new_ids[entry["id"]]
    for processor in _processors(state["post_processor"]):
        for name in {"sep", "cls"} & processor.keys():
            token, id_ = processor[name]
            processor[name] = [token, new_ids[id_]]
        for special in processor.get("special_tokens", {}).values():
            special["ids"] = [new_ids[id_] for id_ in special["ids"]]
    if state["padding"] is not None:
        state["padding"]["pad_id"] = new_ids.get(state["padding"]["pad_id"], 0)
    return state


def _processors(processor: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A post-processor, or those of a sequence."""
    if processor is None:
        return []
    if processor["type"] == "Sequence":
        return [inner for part in processor["processors"] for inner in _processors(part)]
    return [processor]


def _processor_ids(state: dict[str, Any]) -> list[int]:
    ids: list[int] = []
    for processor in _processors(state["post_processor"]):
        ids += [processor[name][1] for name in {"sep", "cls"} & processor.keys()]
        for special in processor.get("special_tokens", {}).values():
            ids += special["ids"]
    return ids


def _cut_config(path: Path, new_ids: dict[int, int]) -> None:
    """Versions of transformers that list the added tokens there do so by their ids."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in settings:
        added = settings["added_tokens_decoder"]
        settings["added_tokens_decoder"] = {str(new_ids[int(i)]): t for i, t in added.items()}
        path.write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")
