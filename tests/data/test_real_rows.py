"""Real data sets, where DLM_REAL_DATA names their folder."""

import json
import os
from pathlib import Path

import pytest
from shard_tools import assert_same_rows, in_memory, prepared, wanted

from dlm.data.prompts import Template, stream_examples
from dlm.data.sources import Source, source_identity, stream_rows
from dlm.evaluation.task_rows import read_task
from dlm.evaluation.tasks import load_task
from dlm.models.build import load_tokenizer

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        "DLM_REAL_DATA" not in os.environ, reason="DLM_REAL_DATA does not name a folder of data"
    ),
]
ROWS = {"train": 29_000, "val": 1_014, "test_2016_flickr": 1_000}
FIRST_OF_TEST = {
    "de-en": "A man in an orange hat starring at something.",
    "fr-en": "A man in an orange hat starring at something.",
    "cs-en": "A man in an orange hat starring at something.",
}


def root() -> Path:
    return Path(os.environ["DLM_REAL_DATA"]) / "multi30k"


@pytest.mark.parametrize("split", ROWS)
@pytest.mark.parametrize("pair", FIRST_OF_TEST)
def test_multi30k_is_read_whole_and_as_written(pair: str, split: str) -> None:
    path = root() / pair / f"{split}.jsonl"
    rows = list(stream_examples(Source(split=split, path=path), Template.of("translation")))
    assert len(rows) == ROWS[split]
    with path.open(encoding="utf-8") as file:
        first = json.loads(next(file))
    assert rows[0][1:3] == (first["src"].strip(), first["tgt"].strip())
    assert (rows[0].place.number, rows[-1].place.number) == (1, ROWS[split])


@pytest.mark.parametrize("pair", FIRST_OF_TEST)
def test_the_first_sentence_of_the_test_set_is_the_published_one(pair: str) -> None:
    source = Source(split="", path=root() / pair / "test_2016_flickr.jsonl", limit=1)
    (example,) = stream_examples(source, Template.of("translation"))
    assert example.response == FIRST_OF_TEST[pair]


@pytest.mark.parametrize(
    ("task", "count"), [("multi30k_de_en", 1000), ("multi30k_de_en_val", 1014)]
)
def test_the_shipped_tasks_read_their_rows(task: str, count: int) -> None:
    rows = read_task(load_task(task), root=str(root()), limit=None)
    assert len(rows.prompts) == len(rows.references) == count
    assert all(rows.prompts) and all(rows.references)
    assert len(read_task(load_task(task), root=str(root()), limit=10).prompts) == 10


@pytest.mark.parametrize(
    ("task", "count"),
    [
        ("perplexity_novels_en", 100),
        ("perplexity_wikitext2", 200),
        ("wikisplit", 5000),
        ("perplexity_wikisplit", 5000),
    ],
)
def test_the_other_tasks_of_local_files_read_their_rows(task: str, count: int) -> None:
    rows = read_task(load_task(task), root=os.environ["DLM_REAL_DATA"], limit=None)
    assert len(rows.references) == count and all(rows.references)


SETS: dict[str, tuple[int, set[str]]] = {
    "tatoeba_de_en/train.jsonl": (46_732, {"src", "tgt"}),
    "tatoeba_de_en/valid.jsonl": (1_000, {"src", "tgt"}),
    "tatoeba_de_en/test.jsonl": (1_000, {"src", "tgt"}),
    "wikisplit/train.jsonl": (9_000, {"src", "tgt"}),
    "wikisplit/valid.jsonl": (1_000, {"src", "tgt"}),
    "wikisplit/test.jsonl": (5_000, {"src", "tgt"}),
    "scitldr/train.jsonl": (1_992, {"src", "refs", "title"}),
    "scitldr/dev.jsonl": (619, {"src", "refs", "title"}),
    "scitldr/test.jsonl": (618, {"src", "refs", "title"}),
    "t0/train.jsonl": (35_174, {"uid", "cluster", "dataset", "template", "inputs", "targets"}),
    "t0/heldout.jsonl": (3_762, {"uid", "cluster", "dataset", "template", "inputs", "targets"}),
    "flan_cot/train.jsonl": (33_443, {"task", "question", "answer", "rationale"}),
    "gsm8k/train.jsonl": (7_473, {"question", "answer"}),
    "gsm8k/test.jsonl": (1_319, {"question", "answer"}),
    "svamp": (1_000, {"ID", "Body", "Question", "Equation", "Answer", "Type"}),
    "mgsm/*.tsv": (11 * 250, {"question", "answer"}),
    "bbh/*.jsonl": (6_511, {"input", "target"}),
    "mmlu/0-shot": (1_531, {"inputs", "targets"}),
    "mmlu/2-shot": (1_531, {"inputs", "targets"}),
    "tydiqa/*/*.jsonl": (0, {"inputs", "targets"}),
    "novels_en/train.txt": (28_040, {"text"}),
    "novels_en/valid.txt": (5_313, {"text"}),
    "novels_de/train.txt": (22_140, {"text"}),
    "novels_de/valid.txt": (2_113, {"text"}),
    "wikitext2/train.txt": (1_841, {"text"}),
    "wikitext2/test.txt": (2_183, {"text"}),
}
"""Path -> rows and fields, as the folder's README says (0: it gives no count)."""


@pytest.mark.parametrize("path", SETS)
def test_every_set_is_read_whole_with_its_fields(path: str) -> None:
    count, fields = SETS[path]
    columns = ("question", "answer") if path.endswith(".tsv") else ()
    source = Source(split="", path=Path(os.environ["DLM_REAL_DATA"]) / path, columns=columns)
    rows = 0
    for _, row in stream_rows(source):
        assert fields <= row.keys()
        rows += 1
    assert rows == count if count else rows > 100
    assert source_identity(source)


@pytest.mark.skipif("DLM_REAL_MODELS" not in os.environ, reason="DLM_REAL_MODELS is not set")
@pytest.mark.parametrize("model", ["bert-tiny-mlm", "minilm-l6"])
def test_rows_prepared_with_a_published_tokenizer_are_those_of_its_own_call(
    model: str, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(Path(os.environ["DLM_REAL_MODELS"]) / model)
    rows = wanted([root() / "de-en" / "val.jsonl"], max_length=512)
    shards, _ = prepared(rows, tokenizer, tmp_path)
    assert_same_rows(shards, in_memory(rows, tokenizer))
