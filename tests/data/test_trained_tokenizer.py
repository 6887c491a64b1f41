"""Tokenizers trained in the run: ids of the special tokens, round trips, reload."""

from pathlib import Path

import pytest
from small_vocabulary import texts, tokenizer_of
from transformers import AutoTokenizer

from dlm.data.rows.encoding import encode_prompts, encode_responses
from dlm.errors import UserError
from dlm.tokens.train import SPECIAL_TOKENS, train_tokenizer

ALGORITHMS = pytest.mark.parametrize("algorithm", ["bpe", "unigram", "byte_bpe"])


@ALGORITHMS
def test_special_tokens_have_the_first_ids_in_xlm_rs_order(algorithm: str) -> None:
    tokenizer = tokenizer_of(algorithm)
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert list(SPECIAL_TOKENS.values()) == words
    assert tokenizer.convert_tokens_to_ids(words) == [0, 1, 2, 3, 4]
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (0, 2)
    assert len(tokenizer) <= (420 if algorithm == "byte_bpe" else 220)


@ALGORITHMS
def test_text_comes_back_after_a_round_trip(algorithm: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(algorithm)
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in texts(60):
        ids = encode_responses(tokenizer, [text])[0]
        assert str(tokenizer.decode(ids, skip_special_tokens=True)).strip() == text
        assert encode_responses(reloaded, [text])[0] == ids
        assert tokenizer.unk_token_id not in ids


@ALGORITHMS
def test_equal_characters_in_other_code_points_are_one(algorithm: str) -> None:
    tokenizer = tokenizer_of(algorithm)
    composed, apart = "fünf", "fu\u0308nf"
    assert encode_responses(tokenizer, [composed]) == encode_responses(tokenizer, [apart])


def test_lowercase_is_done_only_where_asked_for() -> None:
    plain, lower = tokenizer_of(), tokenizer_of(lowercase=True)
    assert encode_responses(lower, ["SEVEN"]) == encode_responses(lower, ["seven"])
    assert encode_responses(plain, ["SEVEN"]) != encode_responses(plain, ["seven"])


@ALGORITHMS
def test_text_that_spells_a_special_token_stays_text(algorithm: str) -> None:
    """A mask in the data would be noise that no objective knows of, an end would cut the row."""
    tokenizer = tokenizer_of(algorithm)
    special = {0, 1, 2, 4}
    for word in ("<mask>", "</s>", "<s>", "<pad>"):
        text = f"seven {word} eight"
        assert not special & set(encode_responses(tokenizer, [text])[0])
        assert not special & set(encode_prompts(tokenizer, [text])[0][1:-1])


@ALGORITHMS
def test_a_vocabulary_smaller_than_the_alphabet_is_refused(algorithm: str) -> None:
    with pytest.raises(UserError, match="vocab_size=9 cannot hold every character of the text"):
        train_tokenizer(texts(), algorithm=algorithm, vocab_size=9)  # type: ignore[arg-type]


CODE = (
    "    total = 0\n    for x in xs:\n        total += x",
    " if a:\n\tb\r\n\n",
    "\n\n  c  = d ",
    "\te",
)


def read_back(algorithm: str, text: str, tmp_path: Path) -> str:
    tokenizer_of(algorithm).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = encode_responses(tokenizer, [text])[0]
    return str(tokenizer.decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("text", [*CODE, "zwölf 漢字 <mask> 🙂"])
def test_bytes_bring_back_every_text_to_the_letter(text: str, tmp_path: Path) -> None:
    assert read_back("byte_bpe", text, tmp_path) == text
    assert "<unk>" not in tokenizer_of("byte_bpe").tokenize(text)


def test_others_lose_the_first_blank_of_a_text(tmp_path: Path) -> None:
    """What the description of tokenizer_training.algorithm sends code to bytes for."""
    assert read_back("bpe", "    ten", tmp_path) == "   ten"


def test_a_line_end_with_its_indentation_can_be_one_token() -> None:
    tokenizer = train_tokenizer([CODE[0]] * 9, algorithm="byte_bpe", vocab_size=300)
    assert len(encode_responses(tokenizer, ["\n        a"])[0]) <= 5
