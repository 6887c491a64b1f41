"""Real data sets, where DLM_REAL_DATA names their folder."""

import json
import os
from pathlib import Path

import pytest
from shard_tools import assert_same_rows, in_memory, prepared, wanted

from dlm.data.prompts import Template, stream_examples
from dlm.data.sources import Source
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
    assert rows[0][1:] == (first["src"].strip(), first["tgt"].strip())
    assert (rows[0].place.number, rows[-1].place.number) == (1, ROWS[split])


@pytest.mark.parametrize("pair", FIRST_OF_TEST)
def test_the_first_sentence_of_the_test_set_is_the_published_one(pair: str) -> None:
    source = Source(split="", path=root() / pair / "test_2016_flickr.jsonl", limit=1)
    ((_, _, english),) = stream_examples(source, Template.of("translation"))
    assert english == FIRST_OF_TEST[pair]


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


@pytest.mark.skipif("DLM_REAL_MODELS" not in os.environ, reason="DLM_REAL_MODELS is not set")
@pytest.mark.parametrize("model", ["bert-tiny-mlm", "minilm-l6"])
def test_rows_prepared_with_a_published_tokenizer_are_those_of_its_own_call(
    model: str, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(Path(os.environ["DLM_REAL_MODELS"]) / model)
    rows = wanted([root() / "de-en" / "val.jsonl"], max_length=512)
    shards, _ = prepared(rows, tokenizer, tmp_path)
    assert_same_rows(shards, in_memory(rows, tokenizer))
