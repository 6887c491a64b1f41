"""Tokenizers of every algorithm, cut to the tokens of some texts, split those as before."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from dlm.data.generated import generate
from dlm.errors import UserError
from dlm.models.cut_tokenizer import cut_tokenizer, tokens_of, tokens_to_keep
from dlm.tokens.train import train_tokenizer

ROWS = generate("number_pairs", split="train", count=300, seed=0)
TEXTS = [text for row in ROWS for text in row.values()]
SEEN = [*TEXTS[:120], "zwölf zü~mal"]
"""With characters that no tokenizer here has learnt."""
_NAMES = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>",
          "unk_token": "<unk>"}  # fmt: skip


def _trained(algorithm: str) -> Tokenizer:
    options: dict[str, Any] = {"special_tokens": list(_NAMES.values()), "show_progress": False}
    trainer: Any
    if algorithm == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=300, **options)
    elif algorithm == "byte_bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=450, initial_alphabet=alphabet, **options)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", **options)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def tokenizer_of(kind: str) -> PreTrainedTokenizerBase:
    """Of an algorithm, or of transformers' own class for a family of models."""
    if kind in ("bpe", "unigram"):
        return train_tokenizer(TEXTS, algorithm=kind, vocab_size=250)  # type: ignore[arg-type]
    if kind == "XLMRobertaTokenizer":
        pieces = json.loads(_trained("unigram").to_str())["model"]["vocab"]
        first, last = ((t, 0.0) for t in ("<s>", "<pad>", "</s>", "<unk>")), ("<mask>", 0.0)
        ordinary = ((piece, score) for piece, score in pieces if piece not in _NAMES.values())
        return XLMRobertaTokenizer(vocab=[*first, *ordinary, last])
    if kind == "RobertaTokenizer":
        model = json.loads(_trained("byte_bpe").to_str())["model"]
        merges: list[Any] = [tuple(pair) for pair in model["merges"]]
        return RobertaTokenizer(vocab=model["vocab"], merges=merges)
    return PreTrainedTokenizerFast(tokenizer_object=_trained(kind), **_NAMES)


KINDS = ("wordpiece", "byte_bpe", "bpe", "unigram", "XLMRobertaTokenizer", "RobertaTokenizer")


def ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any) -> list[list[int]]:
    found: list[list[int]] = tokenizer(texts, **options)["input_ids"]
    return found


def used(tokenizer: PreTrainedTokenizerBase, texts: list[str] = SEEN) -> set[int]:
    return {id_ for row in ids(tokenizer, texts, add_special_tokens=False) for id_ in row}


@pytest.fixture(params=KINDS)
def whole(request: pytest.FixtureRequest) -> Iterator[PreTrainedTokenizerBase]:
    yield tokenizer_of(request.param)


@pytest.mark.parametrize("characters", [True, False])
def test_texts_of_kept_tokens_are_split_as_before(
    whole: PreTrainedTokenizerBase, characters: bool, tmp_path: Path
) -> None:
    kept = tokens_to_keep(whole, used(whole), characters=characters).ids
    cut = cut_tokenizer(whole, kept)
    assert len(cut) == len(kept) < len(whole)
    cut.save_pretrained(tmp_path)
    for tokenizer in (cut, AutoTokenizer.from_pretrained(tmp_path)):
        for options in ({}, {"add_special_tokens": False, "split_special_tokens": True}):
            back = [[kept[id_] for id_ in row] for row in ids(tokenizer, SEEN, **options)]
            assert back == ids(whole, SEEN, **options)
        assert tokenizer.decode(ids(tokenizer, SEEN)[0]) == whole.decode(ids(whole, SEEN)[0])
        assert tokens_of(tokenizer) == whole.convert_ids_to_tokens(list(kept))
        for name in ("bos", "eos", "cls", "sep", "pad", "mask", "unk"):
            before = getattr(whole, f"{name}_token_id")
            now = getattr(tokenizer, f"{name}_token_id")
            assert (None if now is None else kept[now]) == before


def test_new_words_are_spelled_where_characters_are_kept(whole: PreTrainedTokenizerBase) -> None:
    few = TEXTS[:2]
    kept = tokens_to_keep(whole, used(whole, few), characters=True).ids
    cut = cut_tokenizer(whole, kept)
    unknown = [row.count(cut.unk_token_id) for row in ids(cut, TEXTS)]
    assert sum(unknown) == sum(row.count(whole.unk_token_id) for row in ids(whole, TEXTS)) == 0


def test_without_them_what_was_not_seen_becomes_the_unknown_token() -> None:
    whole = tokenizer_of("unigram")
    cut = cut_tokenizer(whole, tokens_to_keep(whole, used(whole, ["two"]), characters=False).ids)
    assert cut.unk_token_id in ids(cut, ["hundred"])[0]


def test_bytes_are_always_kept() -> None:
    whole = tokenizer_of("byte_bpe")
    cut = cut_tokenizer(whole, tokens_to_keep(whole, used(whole, ["two"]), characters=False).ids)
    (row,) = ids(cut, ["hundred ☃"])
    assert cut.unk_token_id not in row and str(cut.decode(row)).strip() == "hundred ☃"


def test_bytes_to_fall_back_on_are_always_kept() -> None:
    vocabulary = [("<unk>", 0.0), ("a", -1.0), ("b", -2.0)]
    vocabulary += [(f"<0x{byte:02X}>", -5.0) for byte in range(256)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    whole = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    kept = tokens_to_keep(whole, {1}, characters=False)
    assert kept.counts == {"special": 1, "that occur": 1, "bytes": 256}
    cut = cut_tokenizer(whole, kept.ids)
    assert ids(cut, ["aé"]) == [[1, 2 + 0xC3, 2 + 0xA9]]


def test_all_that_a_kept_token_is_merged_from_is_kept() -> None:
    merges = [("a", "b"), ("c", "d"), ("ab", "cd"), ("d", "e")]
    vocabulary = {t: i for i, t in enumerate(["a", "b", "c", "d", "e", "ab", "cd", "abcd", "de"])}
    whole = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocabulary, merges)), unk_token=None
    )
    kept = tokens_to_keep(whole, used(whole, ["abcd"]), characters=False)
    assert [whole.convert_ids_to_tokens(i) for i in kept.ids] == [
        "a", "b", "c", "d", "e", "ab", "cd", "abcd"
    ]  # fmt: skip
    # Without an unknown token a character that was not kept would vanish.
    assert kept.counts == {"that occur": 1, "of one character": 5, "that others are merged from": 2}
    assert ids(cut_tokenizer(whole, kept.ids), ["abcd", "de"]) == [[7], [3, 4]]


def test_the_price_of_an_unknown_character_stays() -> None:
    pieces = [("<unk>", 0.0), ("xy", -30.0), ("z", -30.0), ("yz", -1.0), ("never", -50.0)]
    whole = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram(pieces, unk_id=0)), unk_token="<unk>"
    )
    texts = ["xyz", "yz"]
    kept = tokens_to_keep(whole, used(whole, texts), characters=False)
    assert kept.ids == (0, 1, 2, 3, 4)
    assert kept.counts["for the price of unknown characters"] == 1
    # The cheaper unknown character would win otherwise: this is what it is kept for.
    assert ids(cut_tokenizer(whole, kept.ids[:4]), texts) != ids(whole, texts)


def test_ids_before_the_pad_tokens_stay_where_they_are() -> None:
    whole = tokenizer_of("bpe")
    assert tokens_to_keep(whole, (), characters=False, first=9).ids[:9] == tuple(range(9))


def test_a_tokenizer_of_another_algorithm_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    with pytest.raises(UserError, match=r"of kind WordLevel cannot be cut, only .* set it to full"):
        tokens_to_keep(tokenizer, (), characters=True)


def test_a_cut_that_gives_other_tokens_is_refused() -> None:
    # The library numbers added tokens behind the vocabulary's size, which a hole makes too small.
    backend = Tokenizer(models.BPE({"a": 0, "b": 2, "c": 5}, []))
    whole = PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="<mask>")
    assert whole.mask_token_id == 3
    with pytest.raises(UserError, match="cannot be cut: token 2 of 4 that are kept would be"):
        cut_tokenizer(whole, [0, 2, 3, 5])


@pytest.mark.real_data
@pytest.mark.skipif(
    not {"DLM_REAL_DATA", "DLM_REAL_MODELS"} <= os.environ.keys(),
    reason="DLM_REAL_DATA and DLM_REAL_MODELS do not name folders of data and models",
)
def test_berts_tokenizer_splits_real_captions_as_before() -> None:
    whole = AutoTokenizer.from_pretrained(f"{os.environ['DLM_REAL_MODELS']}/bert-tiny-mlm")
    file = Path(os.environ["DLM_REAL_DATA"]) / "multi30k" / "de-en" / "train.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()[:2000]]
    texts = [text for row in rows for text in row.values()]
    kept = tokens_to_keep(whole, used(whole, texts), characters=False).ids
    cut = cut_tokenizer(whole, kept)
    assert len(kept) < 0.2 * len(whole)
    assert [[kept[id_] for id_ in row] for row in ids(cut, texts)] == ids(whole, texts)
