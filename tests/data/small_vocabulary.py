"""A tokenizer of a few hundred subwords, and texts that it knows."""

from transformers import PreTrainedTokenizerFast

from dlm.data.sources import Source, read_rows
from dlm.tokens.train import train_tokenizer


def texts(count: int = 300) -> list[str]:
    source = Source(split="train", generator="number_text", count=count)
    return [row["text"] for row in read_rows(source)]


def tokenizer_of(algorithm: str = "bpe", **options: bool) -> PreTrainedTokenizerFast:
    return train_tokenizer(
        texts(),
        algorithm=algorithm,  # type: ignore[arg-type]
        vocab_size=420 if algorithm == "byte_bpe" else 220,
        **options,
    )
