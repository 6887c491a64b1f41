"""What of a text a tokenizer gives back."""

from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dlm.data.rows.round_trip import OTHER, UNKNOWN, round_trip

TEXTS = ["Two dogs run .", "A man's hat costs £5", "Straße, 12 Uhr"]


def uncased(*words: str) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer as BERT's: lower case, no accents, blanks by rule."""
    vocabulary = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz",
                  *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"), *".,'", *words]  # fmt: skip
    tokenizer = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def test_byte_level_tokens_give_back_every_text() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", "<pad>", "<mask>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        mask_token="<mask>",
    )  # fmt: skip
    texts = [*TEXTS, "  indented\n\ttwice  ", "日本語", "e\u0301 \u00e9 \ufb01", "🐕"]
    back = round_trip(tokenizer, texts)
    assert (back.texts, back.exact, back.share) == (7, 7, 1.0)
    assert not back.losses and not back.warnings("responses")


@pytest.mark.parametrize(
    ("text", "becomes", "lost"),
    [
        ("two dogs", "two dogs", ()),
        ("Two dogs", "two dogs", ("case",)),
        ("two dogs .", "two dogs.", ("blanks",)),
        ("two  dogs", "two dogs", ("blanks",)),
        ("Two dogs .", "two dogs.", ("blanks", "case")),
        ("café", "cafe", ("accents",)),
        ("two £", "two", (UNKNOWN,)),
        ("two 犬", "two", (UNKNOWN,)),
    ],
)
def test_what_an_uncased_word_piece_tokenizer_loses(
    text: str, becomes: str, lost: tuple[str, ...]
) -> None:
    tokenizer = uncased("two", "dogs")
    back = round_trip(tokenizer, [text])
    assert back.written == [becomes]
    assert back.exact == (not lost)
    assert tuple(sorted(back.losses)) == tuple(sorted(lost))


def test_a_loss_of_no_known_kind_is_counted_too() -> None:
    tokenizer = uncased("two", "dogs")
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("dogs", "two")
    assert round_trip(tokenizer, ["two dogs"]).losses == {OTHER: 1}


def test_the_warning_says_how_many_what_and_where() -> None:
    texts = ["two dogs"] * 98 + ["two dogs , two dogs , two dogs , two Dogs"] * 2
    back = round_trip(uncased("two", "dogs"), texts)
    assert back.share == 0.98
    [line] = back.warnings("validation responses")
    assert "98.0% of 100 validation responses come back" in line
    assert "case in 2" in line and "blanks in 2" in line
    assert "'two dogs , two dogs" in line and "'two dogs, two dogs" in line
    assert not round_trip(uncased("two", "dogs"), texts[:98]).warnings("validation responses")


@pytest.mark.parametrize(("decoder", "written"), [(None, "A C G T"), (decoders.Fuse(), "ACGT")])
def test_letters_without_a_decoder_come_back_with_blanks(decoder: Any, written: str) -> None:
    vocabulary = {token: number for number, token in enumerate(["[UNK]", *"ACGT"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    if decoder is not None:
        tokenizer.decoder = decoder
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    back = round_trip(fast, ["ACGT"])
    assert (back.written, back.exact) == ([written], written == "ACGT")
    said = "".join(back.warnings("validation responses"))
    assert ("'A C G T'" in said and "'ACGT'" in said) == (written != "ACGT")
