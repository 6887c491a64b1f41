"""A DataModule for every task: what its rows are."""

from dlm.data.modules import RowsDataModule


class TextDataModule(RowsDataModule):
    """Plain text, for masked language modelling: field ``text``."""

    task = "text"


class TranslationDataModule(RowsDataModule):
    """Sentence pairs: fields ``src`` and ``tgt``."""

    task = "translation"


class SummarizationDataModule(RowsDataModule):
    """Texts and their summaries: ``document``, ``summary`` (of a list the first)."""

    task = "summarization"


class HeadlineDataModule(RowsDataModule):
    """Texts and their headlines: ``document``, ``headline``."""

    task = "headline"


class ParaphraseDataModule(RowsDataModule):
    """The same in other words: ``src``, ``tgt``."""

    task = "paraphrase"


class SimplificationDataModule(RowsDataModule):
    """The same in simpler words or sentences: ``src``, ``tgt``."""

    task = "simplification"


class QuestionGenerationDataModule(RowsDataModule):
    """A question whose answer is given: ``context``, ``answers`` or ``answer``, ``question``."""

    task = "question_generation"


class QuestionAnsweringDataModule(RowsDataModule):
    """Extractive answers: ``context``, ``question``, ``answers`` (SQuAD's too) or ``answer``."""

    task = "question_answering"


class MathDataModule(RowsDataModule):
    """Word problems: ``question``, ``answer``; or ``Body``, ``Question``, ``Answer``."""

    task = "math"


class ReasoningDataModule(RowsDataModule):
    """Answers with their reasons first: ``question``, ``rationale``, ``answer``."""

    task = "reasoning"


class MultipleChoiceDataModule(RowsDataModule):
    """The letter of the right choice: ``question``, ``choices``, ``answer``; or ``input``,
    ``target``."""

    task = "multiple_choice"


class InstructionDataModule(RowsDataModule):
    """Instructions with answers: fields ``inputs`` and ``targets``."""

    task = "instruction"


class AlpacaDataModule(RowsDataModule):
    """Instructions with an input: ``instruction``, ``input``, ``output``."""

    task = "alpaca"


class ChatDataModule(RowsDataModule):
    """Conversations: ``messages`` or ``conversations``; every assistant turn is an example."""

    task = "chat"


DATA_MODULES: dict[str, type[RowsDataModule]] = {
    module.task: module for module in RowsDataModule.__subclasses__()
}
"""Task -> its DataModule."""
