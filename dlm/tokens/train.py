"""Train a subword tokenizer on the run's own text."""

from collections.abc import Iterable
from typing import Literal

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from dlm.errors import UserError

SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
"""In the order of their ids (XLM-R's first four, so that its position ids agree)."""


def train_tokenizer(
    texts: Iterable[str],
    *,
    algorithm: Literal["unigram", "bpe", "byte_bpe"],
    vocab_size: int,
    lowercase: bool = False,
) -> PreTrainedTokenizerFast:
    """A tokenizer with XLM-R's special tokens; text is NFC-normalised.

    Blanks are kept within a text. At its beginning ``byte_bpe`` alone keeps the first one, and line
    ends and tabs beside words as GPT-2 cuts them; it knows every byte, so no text is unknown to it.

    Unigram training is not repeatable to the bit over processes; the trained file is what a run
    hands on, so a stage that is done keeps it.

    Raises:
        UserError: The vocabulary is too small for the text's characters.
    """
    special = list(SPECIAL_TOKENS.values())
    if algorithm == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        trainer: trainers.Trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        in_bytes = algorithm == "byte_bpe"
        tokenizer = Tokenizer(models.BPE(unk_token=None if in_bytes else "<unk>"))
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if in_bytes else [],
        )  # fmt: skip
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    if algorithm == "byte_bpe":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
        )
        tokenizer.decoder = decoders.Metaspace()
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:  # the library raises no kind of its own
        if "not large enough" not in str(error):
            raise
        raise UserError(
            f"tokenizer_training.vocab_size={vocab_size} cannot hold every character of the text "
            "and the special tokens: raise it"
        ) from error
    if tokenizer.get_vocab_size() > vocab_size:
        raise UserError(
            f"tokenizer_training.vocab_size={vocab_size} cannot hold every character of the text "
            f"and the special tokens: raise it to {tokenizer.get_vocab_size()} or more"
        )
    tokenizer.add_special_tokens(
        [AddedToken(token, lstrip=token == "<mask>", special=True) for token in special]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", **SPECIAL_TOKENS
    )
