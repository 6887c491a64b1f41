"""Rows: where they are, what they say, and the tokenizer that is trained on them."""

from dataclasses import dataclass, field
from typing import Any, Literal

from dlm.setting import IN_THE_ROWS, WHEN_SET, where

DataTask = Literal[
    "text", "translation", "summarization", "headline", "paraphrase", "simplification",
    "question_generation", "question_answering", "math", "reasoning", "multiple_choice",
    "instruction", "alpaca", "chat",
]  # fmt: skip


@dataclass(frozen=True)
class HoldoutConfig:
    """A validation set from a set that has none: give it to both of a recipe's sources."""

    share: float | None = None
    """Share of the distinct rows that is held out for validation, e.g. 0.01. A hash of a row's
    content decides, not its number: order, file and format do not matter, and exact duplicates
    are on one side. None: all rows are read."""
    part: Literal["train", "validation"] | None = None
    """The part that is read. Default: by the source's place, data.train or data.validation."""
    by: list[str] = field(default_factory=list)
    """Fields (as the file calls them) that are hashed: rows alike in these are on one side.
    Default: all of the row but ``id_field``."""


@dataclass(frozen=True)
class SourceConfig:
    """Where rows come from: one of ``path``, ``parallel``, ``hub``, ``generator`` and ``stage`` is
    read."""

    name: str | None = None
    """Name of the source in logs and tables. Default: its path, hub name, generator or stage."""
    path: str | None = None
    """A file, a folder of files or a glob pattern (``**``: at any depth), relative to
    ``data.root``. Used when ``data.root`` is set or when nothing else is given. Files are text (a
    row a line), JSON lines, JSON (one array, or objects), CSV and TSV with a header, and TMX, each
    plain or .gz, .bz2, .xz or .zst, and Parquet; the order is that of their names. A folder that
    ``save_to_disk`` of the datasets library wrote is one file."""
    parallel: dict[str, str] = field(default_factory=dict, metadata=IN_THE_ROWS)
    """Text files whose lines belong together, in place of ``path``: field -> file, e.g.
    ``{src: train.de, tgt: train.en}``. Files with other numbers of lines are refused."""
    format: Literal["txt", "jsonl", "json", "csv", "tsv", "tmx", "parquet"] | None = field(
        default=None, metadata=IN_THE_ROWS
    )
    """Format of the files of ``path``. Default: by their names."""
    delimiter: str | None = field(default=None, metadata=IN_THE_ROWS)
    """CSV and TSV files: the character between cells. Default: a comma or a tab, or what the line
    ``sep=;`` or the header shows that has none of these; another than the usual one is said."""
    encoding: str | None = field(default=None, metadata=IN_THE_ROWS)
    """Encoding of the text in files, such as cp1252. Default: UTF-8, or UTF-16 or UTF-32 where the
    file's byte order mark says so; no other is guessed."""
    hub: str | None = None
    """A Hugging Face data set, used when ``data.root`` is not set."""
    hub_config: str | None = None
    """Configuration name of the hub data set."""
    hub_files: str | None = None
    """Read only these files of the hub data set, a glob pattern such as "flan_zsopt_data/*"."""
    revision: str | None = None
    """Revision (branch, tag or commit) of the hub data set."""
    streaming: bool = where(False)
    """Read the hub data set over the network as it is used; off, it is kept in the hub's cache,
    which needs no network afterwards."""
    split: str | None = None
    """Split of the hub data set or of the generator. Default: train or validation, by its place;
    train where ``holdout`` splits it."""
    generator: str | None = None
    """A generated source; ``dlm ls generators`` lists them."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the generator."""
    count: int | None = None
    """How many rows a generator makes."""
    stage: str | None = field(default=None, metadata=WHEN_SET)
    """An earlier stage of kind ``generate``: the rows that it wrote."""
    fields: dict[str, str] = field(default_factory=dict)
    """Renames: our field name -> the field name in the file, e.g. ``{src: de, tgt: en}``."""
    hub_fields: dict[str, str] = field(default_factory=dict)
    """The same renames for rows of the hub data set, where its names differ from the file's."""
    columns: list[str] = field(default_factory=list)
    """CSV and TSV files without a header: the names of their columns."""
    unquoted: bool = False
    """CSV and TSV files: quote marks are plain text. Off, a cell in quotes may hold delimiters and
    line ends."""
    id_field: str | None = None
    """A field that no two rows may share: a repeated id is a bad row. About 100 bytes of memory a
    row."""
    holdout: HoldoutConfig = field(default_factory=HoldoutConfig)
    """Split a set that has no validation set of its own."""
    limit: int | None = None
    """Only this many rows that can be read: the first ones, and where ``path`` is a folder or a
    pattern the first ones of every file, as many of each as of the others."""
    task: DataTask | None = None
    """Shape of this source's rows, where it is not ``data.task``. Texts and rows with a prompt
    train together in a stage of kind pretrain alone."""
    prompt: str | None = None
    """Prompt template of this source. Default: ``data``'s own, where the task is the same."""
    response: str | None = None
    """Response template of this source. Default: as ``prompt``."""
    leave_out: dict[str, list[str]] = field(default_factory=dict)
    """Held-out tasks or clusters: rows with one of these values in the field are not read, e.g.
    ``{cluster: [sentiment]}``. A value that no row has is refused, unless ``limit`` is set."""
    keep_only: dict[str, list[str]] = field(default_factory=dict)
    """The opposite: rows with none of these values in the field are not read."""
    ignored_fields: list[str] = field(default_factory=list, metadata=IN_THE_ROWS)
    """Fields of instruction and chat rows that say something (``system``, ``history``, ``tools``,
    ...) and that are left out on purpose. One that no template reads is refused else."""
    license: str | None = where(None)
    """Licence of the rows, for the card of an exported model. Default: as ``dlm ls sets`` lists it
    for a hub data set, else the card says that none is stated."""


@dataclass(frozen=True)
class TemplateConfig:
    """One prompt and response template of several."""

    prompt: str = ""
    """Prompt template over the row's fields."""
    response: str = ""
    """Response template over the row's fields."""


@dataclass(frozen=True)
class MixtureConfig:
    """How often each training source is drawn. Nothing set: every row once an epoch."""

    weights: dict[str, float] = field(default_factory=dict)
    """Source ``name`` -> weight, for every training source; only their proportions count."""
    temperature: float | None = None
    """Shares in proportion to rows ** (1 / temperature). 1: in proportion to the rows."""
    cap: int | None = None
    """A source counts for at most this many rows (T5's artificial limit K)."""


@dataclass(frozen=True)
class FewShotConfig:
    """Demonstrations before every prompt, in training and validation; never the row itself."""

    count: int = 0
    """Demonstrations of a row, chosen by ``data.seed`` and the row's text."""
    source: str | None = None
    """``name`` of the training source that they come from. Default: the only one."""
    separator: str = "\n\n"
    """Between demonstrations, and before the prompt."""
    joiner: str = "\n"
    """Between the prompt and the response of a demonstration."""
    pool_rows: int = 1000
    """They are drawn from this many first rows of the source, which are held in memory."""


@dataclass(frozen=True)
class DataConfig:
    """The rows of a stage, and how they become prompts and responses."""

    root: str | None = where(None)
    """Folder of local files that replace the hub data sets. The rows themselves are
    fingerprinted, the folder's name is not. Evaluation tasks read it too."""
    task: DataTask | None = None
    """Shape of the rows; ``dlm ls data`` lists the fields of each. Default: text for pretrain,
    instruction for instruct, else translation. A source may have its own. In pretrain both sides of
    rows with a prompt are masked and learnt, elsewhere the response alone."""
    train: list[SourceConfig] = field(default_factory=list)
    """Training sources, one after the other unless ``mixture`` says more."""
    validation: list[SourceConfig] = field(default_factory=list)
    """Validation sources, concatenated."""
    prompt: str | None = None
    """Prompt template over the row's fields, e.g. "{src}". Default: the task's own."""
    response: str | None = None
    """Response template over the row's fields, e.g. "{tgt}". Default: the task's own."""
    templates: list[TemplateConfig] = field(default_factory=list)
    """Several templates in place of ``prompt`` and ``response``: each row gets one, drawn by
    ``data.seed`` and the row's number in its source."""
    vary_prompts: bool = False
    """Draw among all the task's own templates in place of taking its first."""
    seed: int = 0
    """Draws templates and demonstrations. Not the run's seed: another seed of the run draws other
    noise and order over the same prompts."""
    few_shot: FewShotConfig = field(default_factory=FewShotConfig)
    """Demonstrations before the prompt."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """Shares of the training sources."""
    deduplicate: bool = False
    """Read the first of rows with the same prompt and response in ``train``, and the first in
    ``validation``; the others are counted. About 90 bytes of memory a row."""
    overlap: Literal["ignore", "report", "refuse"] = where("ignore")
    """Training rows that share ``overlap_words`` words in a row with rows of the recipe's
    evaluation tasks: not looked for, counted, or refused. Memory grows with the tasks alone."""
    overlap_words: int = where(13)
    """n of the n-grams of ``overlap``; 13 as in GPT-3."""
    text: str | None = None
    """Text template for the task ``text``. Default "{text}"."""
    max_length: int = 512
    """Longest row in tokens, special tokens included; at most the model's positions."""
    too_long: Literal["error", "drop", "truncate_prompt"] = "error"
    """A row longer than ``max_length``, or a response longer than the canvas: stop and name it,
    drop it, or cut the beginning of its prompt (and drop it where the response alone is too long).
    Dropped and cut rows are counted."""
    on_bad_row: Literal["error", "skip"] = "error"
    """A row that cannot be used (broken, not UTF-8, with a NUL, a line over 10 MB, without a field
    or with an empty one, a repeated id): read to the end and name the first ten, or skip them,
    count them, and list them in the stage's logs/bad_rows.jsonl."""
    normalise: Literal["none", "nfc"] = "none"
    """Every text of a row as it is, or in Unicode's composed form (NFC). Prompts given to
    ``generate`` and the rows of evaluation tasks are always taken as they are."""
    canvas_length: int | None = None
    """adapt and instruct only: a canvas of this many tokens behind every prompt, filled up with end
    tokens (LLaDA, Dream); a response has at most one token fewer. The model then says itself how
    long an answer is, and needs no length predictor. None: responses have their own length."""
    text_blocks: int | None = None
    """Sources of the task text only: texts are joined with end tokens between them and cut into
    rows of this many tokens, begin and end included, so that the model trains on full rows. None: a
    row a text."""
    cache: str | None = where(None)
    """Folder of the tokenized training rows, which every run with the same rows and tokenizer
    reads. Default: the variable DLM_CACHE, else ~/.cache/dlm."""


@dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer trained in the run (stage kind ``tokenizer``)."""

    algorithm: Literal["unigram", "bpe", "byte_bpe"] = "unigram"
    """Subword algorithm of the ``tokenizers`` library. ``byte_bpe`` merges bytes (256 of the
    vocabulary): no text is unknown to it, and the indentation of code comes back."""
    vocab_size: int = 10_000
    """Size of the vocabulary, special tokens included."""
    lowercase: bool = False
    """Lower-case the text first (it cannot be undone in the output)."""
