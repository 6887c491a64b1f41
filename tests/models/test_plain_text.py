"""Text that spells a special token stays text, whatever the tokenizer."""

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tiny_backbones import TEXTS
from tiny_causal import CAUSAL, causal_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertTokenizer,
    CamembertTokenizer,
    DebertaV2Tokenizer,
    EsmTokenizer,
    PreTrainedTokenizer,
    PreTrainedTokenizerFast,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

from dlm.data.prompts import Example
from dlm.data.rows.encoding import encode_prompts, encode_responses, encode_rows
from dlm.data.rows.prompt_limit import cut_prompt
from dlm.data.rows.shards.encoder import RowEncoder
from dlm.data.sources import Place
from dlm.errors import UserError
from dlm.models.added_tokens import name_missing_tokens
from dlm.tokens.plain_text import plain_text, text_never_is
from dlm.tokens.train import train_tokenizer

LETTERS = "a < b and c > d / e s mask pad unk MASK SEP CLS PAD UNK | [ ] endoftext NOTUSED _ ▁"
CORPUS = [*TEXTS, "hello world how are you today", LETTERS, "0123456789 . , ! ? ( ) - ' äöüß"] * 20
XLMR = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def unigram(special: list[str], more: list[tuple[str, float]]) -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=special, unk_token=special[-1], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [*(tuple(entry) for entry in vocabulary), *more]


def xlm_roberta() -> Any:
    return XLMRobertaTokenizer(vocab=unigram([*XLMR.values()], [("<mask>", 0.0)]))


def camembert() -> Any:
    special = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>"]
    return CamembertTokenizer(vocab=unigram(special, [("<mask>", 0.0)]))


def deberta_v3() -> Any:
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    return DebertaV2Tokenizer(vocab=unigram(special, [("[MASK]", 0.0)]), unk_id=3)


def t5() -> Any:
    tokenizer = t5_as_it_is()
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    return tokenizer


def t5_as_it_is() -> Any:
    return T5Tokenizer(vocab=unigram(["<pad>", "</s>", "<unk>"], []), extra_ids=4)


def wordpiece() -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return BertTokenizer(vocab=tokenizer.get_vocab())


def fast(model: Any, pre_tokenizer: Any, decoder: Any = None, normalizer: Any = None) -> Any:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.normalizer = pre_tokenizer, normalizer
    if decoder is not None:
        tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>", **XLMR)


NAMES = [*XLMR.values(), "<mask>"]
WORDS = sorted({word for text in CORPUS for word in text.split()})


def word_level() -> Any:
    vocabulary = {token: number for number, token in enumerate([*NAMES, *WORDS])}
    return fast(models.WordLevel(vocabulary, unk_token="<unk>"), pre_tokenizers.WhitespaceSplit())


def wordpiece_of_words() -> Any:
    letters = [c for c in sorted(set("".join(CORPUS))) if c != " "]
    pieces = dict.fromkeys([*NAMES, *WORDS, *letters, *(f"##{letter}" for letter in letters)])
    vocabulary = {token: number for number, token in enumerate(pieces)}
    return fast(models.WordPiece(vocabulary, unk_token="<unk>"), pre_tokenizers.WhitespaceSplit())


def sentencepiece_bpe() -> Any:
    """As Llama's is made of SentencePiece's pieces: with merges for every way to spell one."""
    letters = sorted(set("".join(CORPUS).replace(" ", "▁")))
    steps = [("<", "s"), ("</", "s"), ("<", "/"), ("<s", ">"), ("</s", ">"), ("m", "a"), ("s", "k"),
             ("ma", "sk"), ("<", "mask"), ("<mask", ">")]  # fmt: skip
    pieces = dict.fromkeys([*NAMES, *letters, *("".join(pair) for pair in steps)])
    vocabulary = {token: number for number, token in enumerate(pieces)}
    model = models.BPE(vocabulary, steps, unk_token="<unk>", fuse_unk=True)
    return fast(model, pre_tokenizers.Metaspace(), decoders.Metaspace(), normalizers.NFKC())


def byte_level() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=NAMES, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return fast(tokenizer.model, pre_tokenizers.ByteLevel(), decoders.ByteLevel())


def own(algorithm: Any) -> Callable[[], Any]:
    return lambda: train_tokenizer(CORPUS, algorithm=algorithm, vocab_size=130)


def causal(model_type: str) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = causal_tokenizer(model_type)
        name_missing_tokens(tokenizer)
        return tokenizer

    return make


KINDS = {
    "XLM-R": xlm_roberta, "CamemBERT": camembert, "DeBERTa-v3": deberta_v3, "T5": t5,
    "BERT": wordpiece, "word level": word_level, "WordPiece of words": wordpiece_of_words,
    "SentencePiece BPE": sentencepiece_bpe, "byte-level BPE": byte_level,
    "ours, unigram": own("unigram"), "ours, bpe": own("bpe"),
    **{name: causal(name) for name in CAUSAL},
}  # fmt: skip
AROUND = ["{}", "hello {} world", "a{}b", "{0}{0}", "hello {}", "＜{}＞"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def spelled(tokenizer: Any) -> Iterator[str]:
    for token, around in product(tokenizer.all_special_tokens, AROUND):
        yield around.format(token)
    yield "＜mask＞ ＜/s＞"  # NFKC makes it ASCII


def test_no_special_token_comes_of_text(tokenizer: Any) -> None:
    texts = list(spelled(tokenizer))
    never = text_never_is(tokenizer)
    for text, ids in zip(texts, encode_responses(tokenizer, texts), strict=True):
        assert never.isdisjoint(ids), text
        assert ids, text


def test_what_can_be_spelled_by_its_letters_is_not_lost(tokenizer: Any) -> None:
    if "word" in str(type(tokenizer.backend_tokenizer.model)).lower():
        pytest.skip("a word that is not in the vocabulary is unknown")
    text = f"hello {tokenizer.mask_token} world"
    (ids,) = encode_responses(tokenizer, [text])
    assert tokenizer.unk_token_id not in ids
    bare = tokenizer.decode(ids, skip_special_tokens=True).lower().replace(" ", "")
    assert bare == text.lower().replace(" ", "")


def test_ordinary_text_keeps_its_ids(tokenizer: Any) -> None:
    texts = [*CORPUS, "", " ", "☃ and more", "x" * 300]
    usual = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert encode_responses(tokenizer, texts) == usual
    # Pieces out of reach change nothing else, so a text that spells one keeps its other ids too.
    again = [plain_text(tokenizer)._as_text(text).ids for text in texts]
    assert again == usual


def test_every_way_to_tokenize_agrees(tokenizer: Any) -> None:
    texts = list(spelled(tokenizer))
    examples = [Example(Place("f", 1), text, text[::-1]) for text in texts]
    encoder = RowEncoder(tokenizer)
    prompts, responses = encoder.ids(encoder.encode(examples, conditional=True), len(examples))
    rows = encode_rows(tokenizer, texts, [text[::-1] for text in texts], conditional=True)
    for index, parts in enumerate(encoder.rows(prompts, responses)):
        assert [token for part in parts for token in part] == rows.row(index).tolist()
    for text in texts:
        for most in (1, 3, 50):
            (ids,) = encode_responses(tokenizer, [cut_prompt(tokenizer, text, most)])
            assert len(ids) <= most


def test_special_tokens_stand_where_the_row_has_them(tokenizer: Any) -> None:
    special = RowEncoder(tokenizer).special
    for row in encode_prompts(tokenizer, list(spelled(tokenizer))):
        assert (row[0], row[-1]) == (special.begin, special.end)
        assert {special.begin, special.end, special.mask}.isdisjoint(row[1:-1])


def test_a_tokenizer_without_a_mask_token_reads_text_too() -> None:
    tokenizer = t5_as_it_is()
    (ids,) = encode_responses(tokenizer, ["a </s> <mask> b"])
    assert tokenizer.eos_token_id not in ids


ESM_NAMES = ["<cls>", "<pad>", "<eos>", "<unk>", "<mask>"]


def esm(folder: Path) -> Any:
    """ESM-2's, written in Python: a protein is a word without blanks, its residues are tokens."""
    (folder / "vocab.txt").write_text(
        "\n".join([*ESM_NAMES[:4], *"LAGVSERTIDPKQNFYMHWC", "<mask>"])
    )
    return EsmTokenizer(str(folder / "vocab.txt"))


def test_the_residues_of_a_protein_are_its_tokens(tmp_path: Path) -> None:
    tokenizer = esm(tmp_path)
    ids = encode_responses(tokenizer, ["MKTAYIAK", "GG"])
    assert [tokenizer.convert_ids_to_tokens(row) for row in ids] == [list("MKTAYIAK"), ["G", "G"]]
    for text in ("MKT<mask>AY", "<cls>GG"):
        assert text_never_is(tokenizer).isdisjoint(encode_responses(tokenizer, [text])[0])


class Python(PreTrainedTokenizer):
    """Written in Python: it looks words up."""

    def __init__(self) -> None:
        self.words = {word: number for number, word in enumerate([*NAMES, *WORDS])}
        super().__init__(mask_token="<mask>", **XLMR)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    def get_vocab(self) -> dict[str, int]:
        return dict(self.words)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return text.split()

    def _convert_token_to_id(self, token: str) -> int:
        return self.words.get(token, self.words["<unk>"])

    def _convert_id_to_token(self, index: int) -> str:
        return [*self.words][index]


def test_a_tokenizer_in_python_that_cannot_is_refused_by_place() -> None:
    tokenizer = Python()
    assert encode_responses(tokenizer, ["hello world"]) == [[WORDS.index(w) + 5 for w in
                                                             ("hello", "world")]]  # fmt: skip
    with pytest.raises(UserError, match="'hello <mask> world' spells a special token"):
        encode_responses(tokenizer, ["hello world", "hello <mask> world"])
    examples = [Example(Place("rows.jsonl", 1), "hello", "world"),
                Example(Place("rows.jsonl", 2), "hello", "a <mask>")]  # fmt: skip
    with pytest.raises(UserError, match=r"rows\.jsonl.*2.*spells a special token"):
        RowEncoder(tokenizer).encode(examples, conditional=True)
