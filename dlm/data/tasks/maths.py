"""Word problems: GSM8K and MGSM (question, answer), SVAMP (Body, Question, Answer)."""

from dlm.data.sources import Place, Row
from dlm.data.tasks.pieces import Fields, field_of, text_of


def word_problem(row: Row, place: Place) -> list[Fields]:
    """``question`` and ``answer``; a number as answer becomes text (51.0 is "51").

    SVAMP's Body and Question are joined by a blank, after a comma where the Body does not end its
    sentence. GSM8K's answers stay as they are written, calculator notes (<<2+3=5>>) included.
    """
    if row.get("Body") is None:
        question, answer = field_of(row, "question", place), field_of(row, "answer", place)
    else:
        body = text_of(row["Body"], "Body", place).strip()
        asked = text_of(field_of(row, "Question", place), "Question", place)
        question = f"{body}{'' if body[-1:] in '.?!,;:' else ','} {asked}"
        answer = field_of(row, "Answer", place)
    return [{
        **row,
        "question": text_of(question, "question", place),
        "answer": text_of(answer, "answer", place),
    }]  # fmt: skip
