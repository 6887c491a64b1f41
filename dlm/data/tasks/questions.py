"""Questions about a text: extractive answers, and the questions themselves."""

from dlm.data.sources import BadRow, Place, Row, names_of
from dlm.data.tasks.pieces import Fields, field_of, text_of, with_others


def answered(row: Row, place: Place) -> list[Fields]:
    """``context``, ``question`` and an answer in the shapes of SQuAD, XQuAD and TyDiQA.

    The answer is ``answers.text`` (a list), ``answers`` (a list or a text) or ``answer``; of
    several the first is taken, and all are references of a score. A null counts as not there.

    Raises:
        BadRow: A question has no answer (SQuAD 2.0 has such): they are not of this task.
    """
    given = (row.get(name) for name in ("answers", "answer"))
    texts = (value.get("text") if isinstance(value, dict) else value for value in given)
    answers = next((value for value in texts if value is not None), None)
    if answers is None or answers == []:
        raise BadRow(
            place,
            f"no answer in 'answers.text', 'answers' or 'answer' (the row has "
            f"{names_of(row)}): remove the row, or set `fields` of the source",
        )
    return [{
        **row,
        "context": text_of(field_of(row, "context", place), "context", place),
        "question": text_of(field_of(row, "question", place), "question", place),
        **with_others(answers, "answers", place, "answer"),
    }]  # fmt: skip


def summarised(row: Row, place: Place) -> list[Fields]:
    """``document`` (a text, or a list of its sentences) and ``summary``; of a list the
    first, and all are references of a score."""
    document = field_of(row, "document", place)
    if isinstance(document, list):
        document = " ".join(text_of(sentence, "document", place) for sentence in document)
    summaries = field_of(row, "summary", place)
    return [{**row, "document": document, **with_others(summaries, "summary", place, "summary")}]
