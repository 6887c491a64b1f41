"""Texts of many fields through tokenizers of many kinds and back: as they were, or it is said."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, EsmTokenizer, PreTrainedTokenizerFast

from dlm.data.rows.encoding import encode_responses
from dlm.data.rows.round_trip import fitting_form, round_trip
from dlm.generation.pieces import Pieces
from dlm.tokens.text_form import USUAL, TextForm, decode_texts, form_of, set_form

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
DNA = ["ACGTTGCAACGG", "TTACGGACCA", "A"]
PROTEINS = ["MKTAYIAKQRQIS", "MPQCKTSPLS", "GAVLIMFWP"]
SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "[Na+].[Cl-]", "BrC1=CC=CC=C1", "C[C@H](N)C(=O)O"]
SELFIES = ["[C][C][=O]", "[C][Branch1][C][O][N]", "[Ring1]"]
CODE = ["    return x + 1\n", "def f(x):\n\tif x:\n        return [x]\n\n", "x  =  1", "\n\n# a\n"]
CHINESE = ["我喜欢读书", "今天天气很好。", "他说：好的"]
MIXED = ["我用Python写", "今天machine learning课", "好的"]
PROSE = ["a dog sat on the mat", "the red fox ran", "ein roter fuchs"]
_SMILES = r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|/|:|@|%[0-9]{2}|[0-9]"


def fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def words(texts: list[str], pattern: str, *, fuse: bool = False) -> Any:
    """Every match of a regular expression is a token; as a rule without a decoder."""
    pieces = sorted({piece for text in texts for piece in re.findall(pattern, text, re.DOTALL)})
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *pieces])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    # (?s:.) is no syntax of its regular expressions.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(pattern if pattern != "." else r"[\s\S]"), "isolated"
    )
    if fuse:
        tokenizer.decoder = decoders.Fuse()
    return fast(tokenizer)


def byte_level(texts: list[str], *, prefix: bool = False) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return fast(tokenizer)


def bpe(texts: list[str]) -> Any:
    """Pieces of words, no mark on them and no decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(vocab_size=13, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return fast(tokenizer)


def unigram(texts: list[str], *, metaspace: bool) -> Any:
    tokenizer = Tokenizer(models.Unigram())
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
    )
    tokenizer.train_from_iterator(texts * 5, trainer)
    return fast(tokenizer)


def wordpiece(texts: list[str], *, lower: bool = False, size: int = 120) -> Any:
    """As BERT's: Chinese signs apart, ``##`` inside words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return fast(tokenizer)


def esm(place: Path) -> Any:
    (place / "vocab.txt").write_text(
        "\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<mask>"])
    )
    return EsmTokenizer(str(place / "vocab.txt"))


def in_python(place: Path) -> Any:
    return BertTokenizer(
        vocab={t: i for i, t in enumerate([*SPECIAL, *"".join(sorted({*"".join(CHINESE)}))])}
    )


WHOLE: dict[str, tuple[Callable[[Path], Any], list[str], TextForm]] = {
    "DNA, letters": (lambda _: words(DNA, "."), DNA, TextForm("joined")),
    "DNA, letters with a decoder": (lambda _: words(DNA, ".", fuse=True), DNA, USUAL),
    "DNA, 3-mers": (lambda _: words(DNA, "[ACGT]{1,3}"), DNA, TextForm("joined")),
    "DNA, BPE": (lambda _: bpe(DNA), DNA, TextForm("joined")),
    "DNA, Unigram": (lambda _: unigram(DNA, metaspace=False), DNA, TextForm("joined")),
    "DNA, Unigram with marks": (lambda _: unigram(DNA, metaspace=True), DNA, USUAL),
    "DNA, byte-level": (lambda _: byte_level(DNA), DNA, USUAL),
    "proteins, letters": (lambda _: words(PROTEINS, "."), PROTEINS, TextForm("joined")),
    "proteins, in Python": (esm, PROTEINS, TextForm("joined")),
    "proteins, WordPiece": (lambda _: wordpiece(PROTEINS), PROTEINS, USUAL),
    "SMILES, regular expression": (lambda _: words(SMILES, _SMILES), SMILES, TextForm("joined")),
    "SMILES, byte-level": (lambda _: byte_level(SMILES), SMILES, USUAL),
    "SMILES, WordPiece": (lambda _: wordpiece(SMILES, size=40), SMILES, TextForm("none")),
    "SELFIES": (lambda _: words(SELFIES, r"\[[^\]]+\]"), SELFIES, TextForm("joined")),
    "code, byte-level": (lambda _: byte_level(CODE), CODE, TextForm("decoded", "kept")),
    "code, letters": (lambda _: words(CODE, "."), CODE, TextForm("joined", "kept")),
    "Chinese, WordPiece": (
        lambda _: wordpiece(CHINESE + MIXED), CHINESE, TextForm("none_at_han")
    ),
    "Chinese, BERT": (in_python, CHINESE, TextForm("joined")),
    "Chinese, with English": (lambda _: wordpiece(MIXED), MIXED, TextForm("none_at_han")),
    "Chinese, byte-level": (lambda _: byte_level(CHINESE), CHINESE, USUAL),
    "prose, letters": (lambda _: words(PROSE, "."), PROSE, TextForm("joined")),
    "prose, words": (lambda _: words(PROSE, r"\w+"), PROSE, USUAL),
    "prose, WordPiece": (lambda _: wordpiece(PROSE), PROSE, USUAL),
}  # fmt: skip
"""Field and kind -> tokenizer, texts, the form in which they come back as they were."""


@pytest.mark.parametrize("kind", WHOLE)
def test_every_text_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    """Right tokens of letters, molecules, code and Chinese score 100, and nothing needs saying."""
    make, texts, form = WHOLE[kind]
    tokenizer = make(tmp_path)
    assert fitting_form(tokenizer, texts) == form
    set_form(tokenizer, form)
    back = round_trip(tokenizer, texts)
    assert (back.share, back.warnings("texts")) == (1.0, [])
    assert back.written == texts
    assert decode_texts(tokenizer, encode_responses(tokenizer, texts)) == texts


def test_a_form_of_pure_chinese_texts_fits_the_mixed_ones_behind_them() -> None:
    """Joined, their words would be full of ``##``; without any blank, they would be one word."""
    tokenizer = wordpiece(CHINESE + MIXED + PROSE)
    set_form(tokenizer, fitting_form(tokenizer, CHINESE))
    later = [*MIXED, *PROSE]
    assert decode_texts(tokenizer, encode_responses(tokenizer, later)) == later


LOST: dict[str, tuple[Callable[[Path], Any], list[str], str]] = {
    "capitals": (lambda _: wordpiece(PROSE, lower=True), ["A dog", "The fox"], "lost: case in 2"),
    "blanks within code": (lambda _: wordpiece(CODE), CODE[1:3], "lost: blanks in 2"),
    "indentation": (lambda _: wordpiece(CODE), ["    return x"], "1 of 1 texts begin with blanks"),
    "indentation, Unigram": (lambda _: unigram(PROSE, metaspace=True), ["\n a dog"],
                             "1 of 1 texts begin with"),
    "blanks beside Chinese": (lambda _: wordpiece(CHINESE + MIXED), ["我用 Python 写"],
                              "lost: blanks in 1"),
    "other letters": (lambda _: words(DNA, "."), ["ACGU", "NNN"], "lost: unknown characters in 2"),
    "overlapping 3-mers": (lambda _: words(DNA, "[ACGT]{3}"), ["ACG T"], "lost: unknown"),
    "capitals of proteins": (
        lambda _: BertTokenizer(vocab={t: i for i, t in enumerate([*SPECIAL, *"MKTAYI"])}),
        ["M K T A", "K K"], "lost: unknown characters in 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOST)
def test_what_does_not_come_back_is_named(kind: str, tmp_path: Path) -> None:
    make, texts, reason = LOST[kind]
    tokenizer = make(tmp_path)
    set_form(tokenizer, fitting_form(tokenizer, texts))
    said = " ".join(round_trip(tokenizer, texts).warnings("texts"))
    assert reason in said and "Take " in said


def test_the_usual_form_stays_where_another_gains_nothing() -> None:
    """Words and single letters come back alike with and without what stands between tokens."""
    tokenizer = words(DNA, ".")
    assert form_of(tokenizer) == USUAL == fitting_form(tokenizer, ["A", "C"])
    assert fitting_form(tokenizer, []) == USUAL


def test_pieces_to_fill_in_stand_without_the_tokenizers_blanks() -> None:
    tokenizer = words(DNA, ".")
    set_form(tokenizer, TextForm("joined"))
    pieces = Pieces(tokenizer)
    (ids,) = encode_responses(tokenizer, ["GT"])
    assert (pieces.decode_after(ids), pieces.piece(ids[0])) == ("GT", "G")
    assert pieces.encode_after("GT") == ids
