"""Real lines in many languages have the ids that the tokenizer itself gives them."""

import csv
import json
import os
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from test_plain_text import KINDS, esm

from dlm.data.prompts import Example
from dlm.data.rows.encoding import encode_responses
from dlm.data.rows.shards.encoder import RowEncoder
from dlm.data.sources import Place
from dlm.models.build import load_tokenizer

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "DLM_REAL_DATA" not in os.environ, reason="DLM_REAL_DATA does not name a folder of data"
    ),
]
LANGUAGES = ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
FIELDS = {
    "multi30k/cs-en/val.jsonl": "src", "multi30k/fr-en/val.jsonl": "src",
    "tatoeba_de_en/valid.jsonl": "src", "tydiqa/0-shot/finnish.jsonl": "inputs",
    "bbh/dyck_languages.jsonl": "input", "scitldr/dev.jsonl": "src", "t0/heldout.jsonl": "inputs",
}  # fmt: skip
REAL = ("bert-tiny-mlm", "minilm-l6")
LINES = 500


def sources(root: Path) -> Iterator[Iterator[str]]:
    """Lines of questions, captions, novels, an encyclopedia and formal languages."""
    for language in LANGUAGES:
        with (root / "mgsm" / f"mgsm_{language}.tsv").open(encoding="utf-8") as file:
            yield (row[0] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for path, field in FIELDS.items():
        with (root / path).open(encoding="utf-8") as file:
            yield (str(json.loads(line)[field]) for line in file)
    for path in ("novels_de/valid.txt", "novels_en/valid.txt", "wikitext2/test.txt"):
        with (root / path).open(encoding="utf-8") as file:
            yield (line.rstrip("\n") for line in file)


@cache
def lines() -> tuple[str, ...]:
    root = Path(os.environ["DLM_REAL_DATA"])
    return tuple(text for source in sources(root) for text in islice(source, 30))


def as_the_tokenizer_says(tokenizer: Any) -> tuple[list[str], list[list[int]]]:
    """Lines that spell no special token, and their ids."""
    texts = [
        text for text in lines() if not any(token in text for token in tokenizer.all_special_tokens)
    ]
    assert len(texts) >= LINES
    return texts, [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@pytest.mark.parametrize("name", [*KINDS, *REAL])
def test_real_lines_have_the_ids_of_the_tokenizer_itself(name: str) -> None:
    if name in KINDS:
        tokenizer = KINDS[name]()
    elif "DLM_REAL_MODELS" in os.environ:
        tokenizer = load_tokenizer(Path(os.environ["DLM_REAL_MODELS"]) / name)
    else:
        pytest.skip("DLM_REAL_MODELS does not name a folder of models")
    texts, expected = as_the_tokenizer_says(tokenizer)
    assert encode_responses(tokenizer, texts) == expected
    encoder = RowEncoder(tokenizer)
    examples = [Example(Place("lines", 1), "", text) for text in texts]
    assert encoder.encode(examples, conditional=False) == expected


def test_a_tokenizer_in_python_gives_real_lines_its_own_ids(tmp_path: Path) -> None:
    """ESM's looks for letters where split_special_tokens makes one unknown token of a word."""
    tokenizer = esm(tmp_path)
    texts, expected = as_the_tokenizer_says(tokenizer)
    assert encode_responses(tokenizer, texts) == expected
