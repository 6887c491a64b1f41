"""The recipe: what a person may write in YAML, with meaning, unit and default of every field.

Sections given at the top of a recipe are the defaults of every stage; a stage's own section wins.
Fields marked ``semantic=False`` (where and how often, never what) stay out of the fingerprint.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

StageKind = Literal[
    "tokenizer", "pretrain", "adapt", "length", "instruct", "autoregressive", "evaluate"
]
DataTask = Literal[
    "text", "translation", "summarization", "headline", "paraphrase", "simplification",
    "question_generation", "question_answering", "math", "reasoning", "multiple_choice",
    "instruction", "alpaca", "chat",
]  # fmt: skip
MetricName = Literal["exact_match", "bleu", "chrf", "bleu_lowercase", "chrf_lowercase"]
DEFAULT_BATCH_SIZE = 64
"""Rows per step where a recipe gives neither rows nor tokens."""


def _where(default: Any) -> Any:
    """A field that says where or how often, not what: it never changes the numbers."""
    return field(default=default, metadata={"semantic": False})


_WHEN_SET = {"when_set": True}
"""Marks a section or setting that came later: left as it is, it is not in the fingerprint, so that
stages which were finished before it existed stay done."""


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
    """Where rows come from: exactly one of ``path``, ``hub`` and ``generator`` is read."""

    name: str | None = None
    """Name of the source in logs and tables. Default: its path, hub name or generator."""
    path: str | None = None
    """A file, a folder of files or a glob pattern (``**``: at any depth), relative to
    ``data.root``. Used when ``data.root`` is set or when nothing else is given. Files are text (a
    row a line), JSON lines, JSON (one array), CSV and TSV with a header, each plain or .gz, .bz2,
    .xz or .zst, and Parquet; the order is that of their names."""
    hub: str | None = None
    """A Hugging Face data set, used when ``data.root`` is not set."""
    hub_config: str | None = None
    """Configuration name of the hub data set."""
    hub_files: str | None = None
    """Read only these files of the hub data set, a glob pattern such as "flan_zsopt_data/*"."""
    revision: str | None = None
    """Revision (branch, tag or commit) of the hub data set."""
    streaming: bool = _where(False)
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
    """Only the first so many rows that can be read."""
    task: DataTask | None = None
    """Shape of this source's rows, where it is not ``data.task``."""
    prompt: str | None = None
    """Prompt template of this source. Default: ``data``'s own, where the task is the same."""
    response: str | None = None
    """Response template of this source. Default: as ``prompt``."""
    leave_out: dict[str, list[str]] = field(default_factory=dict)
    """Held-out tasks or clusters: rows with one of these values in the field are not read, e.g.
    ``{cluster: [sentiment]}``. A value that no row has is refused, unless ``limit`` is set."""
    keep_only: dict[str, list[str]] = field(default_factory=dict)
    """The opposite: rows with none of these values in the field are not read."""
    license: str | None = _where(None)
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
    """A source counts for at most so many rows (T5's artificial limit K)."""


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
    """They are drawn from so many first rows of the source, which are held in memory."""


@dataclass(frozen=True)
class DataConfig:
    """The rows of a stage, and how they become prompts and responses."""

    root: str | None = _where(None)
    """Folder of local files that replace the hub data sets. The rows themselves are
    fingerprinted, the folder's name is not. Evaluation tasks read it too."""
    task: DataTask | None = None
    """Shape of the rows; ``dlm ls data`` lists the fields of each. Default: text for pretrain,
    translation for adapt, instruction for instruct. A source may have its own."""
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
    overlap: Literal["ignore", "report", "refuse"] = _where("ignore")
    """Training rows that share ``overlap_words`` words in a row with rows of the recipe's
    evaluation tasks: not looked for, counted, or refused. Memory grows with the tasks alone."""
    overlap_words: int = _where(13)
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
    """adapt and instruct only: a canvas of so many tokens behind every prompt, filled up with end
    tokens (LLaDA, Dream); a response has at most one token fewer. The model then says itself how
    long an answer is, and needs no length predictor. None: responses have their own length."""
    text_blocks: int | None = None
    """task text only: texts are joined with end tokens between them and cut into rows of so many
    tokens, begin and end included, so that the model trains on full rows. None: a row a text."""
    cache: str | None = _where(None)
    """Folder of the tokenized training rows, which every run with the same rows and tokenizer
    reads. Default: the variable DLM_CACHE, else ~/.cache/dlm."""


@dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer trained in the run (stage kind ``tokenizer``)."""

    algorithm: Literal["unigram", "bpe"] = "unigram"
    """Subword algorithm of the ``tokenizers`` library."""
    vocab_size: int = 10_000
    """Size of the vocabulary, special tokens included."""
    lowercase: bool = False
    """Lower-case the text first (it cannot be undone in the output)."""


@dataclass(frozen=True)
class VocabularyConfig:
    """Which of a pretrained model's tokens a stage keeps, in its network and its tokenizer."""

    keep: Literal["full", "used"] = "full"
    """full: all. used: those that occur in the stage's training and validation rows, the special
    ones, and what is needed to split the rows as before (the paper's task runs). Stages that start
    from this one have its vocabulary. A token that was not kept is split into others or becomes
    the unknown token; ``dlm export --full-vocabulary`` puts the others back."""
    characters: bool = True
    """used: keep every token of one character too, so that unseen words can be spelled. Byte
    tokens are always kept."""
    extra: list[str] = field(default_factory=list, metadata={"semantic": False})
    """used: more files (any format of ``data.train.path``, relative to ``data.root``) whose tokens
    are kept, such as the rows of later stages. Their contents are fingerprinted."""


@dataclass(frozen=True)
class ModelConfig:
    """The backbone where a stage does not continue from another one (``init_from``)."""

    pretrained: str | None = None
    """A Hugging Face directory or hub name of a masked or causal language model; None builds one
    from scratch with the sizes below. A causal one becomes bidirectional, keeps predicting each
    token from the state before it, and is given mask and padding tokens."""
    revision: str | None = None
    """Revision of the hub model."""
    fresh_head: bool = field(default=False, metadata=_WHEN_SET)
    """``pretrained`` was saved without a language model's output layer (a plain encoder, as
    BertModel): begin with a random one, drawn by the stage's seed and the model's own
    initializer_range, over the tied embedding. Only what of the output layer is missing is random,
    and a line says what; a checkpoint that lacks nothing is refused. Such a layer knows no words
    until it has been trained: let a pretrain stage come first. Not read with ``init_from``."""
    trust_remote_code: bool = False
    """Run code that comes with the hub model. Off unless you asked for it."""
    architecture: Literal[
        "xlm-roberta", "roberta", "bert", "modernbert", "eurobert", "gpt2", "llama"
    ] = "xlm-roberta"
    """Architecture from scratch."""
    hidden_size: int = 512
    """Width of the network."""
    num_layers: int = 6
    """Number of transformer layers."""
    num_heads: int = 8
    """Attention heads per layer; must divide ``hidden_size``."""
    intermediate_size: int | None = None
    """Width of the feed-forward layers. Default: 4 x ``hidden_size``."""
    max_positions: int = 512
    """Longest sequence in tokens that the network can read."""
    initializer_range: float = 0.02
    """Standard deviation of random weights. 0.02 suits widths of 768 and more; a narrow network
    learns much sooner with about 1 / sqrt(hidden_size)."""
    dropout: float | None = None
    """Dropout of hidden states and attention. Default: the checkpoint's own, 0.1 from scratch."""
    attention: Literal["bidirectional", "prefix_lm"] = "bidirectional"
    """adapt and instruct only, read with ``init_from`` too: every token sees every other one, or
    the prompt does not see the response. Kept with the export, for the stages and the generation
    that use it."""
    attention_annealing_steps: int = 0
    """pretrain, adapt and instruct from a causal language model only: over so many first steps the
    share of later tokens that are seen grows from 0 to 1 (DiffuLLaMA). 0: all from the start."""
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig, metadata=_WHEN_SET)
    """Cut the vocabulary of the model that the stage starts from; read with ``init_from`` too."""


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (LoRA, arXiv 2106.09685): the network is frozen, and each target's matrix
    W becomes W + alpha / rank x B A. Checkpoints hold what is trained alone; the export is the
    merged model, an ordinary directory."""

    rank: int | None = None
    """Rank of B A. None or 0: no adapters, every weight is trained."""
    alpha: float | None = None
    """The adapters' scale times their rank. Default: 2 x rank. They want a learning rate about
    ten times that of full training."""
    dropout: float = 0.0
    """Dropout of the adapters' input."""
    targets: list[str] = field(default_factory=list)
    """Linear layers that get an adapter, by the ends of their names, e.g. [query, value].
    [all-linear]: all but the vocabulary matrix. Default: those of the transformer's layers, which
    leaves out the dense layers of the output head too."""
    train_also: list[str] = field(default_factory=list)
    """Modules that are trained in full, by the ends of their names, e.g. [word_embeddings,
    lm_head]. The mask token's embedding is frozen otherwise: fine where the network was pretrained
    with one, not where a causal model was given a random one. Tied weights stay tied."""
    keep_adapter: bool = _where(False)
    """Write the adapter itself too, in peft's format, to export/adapter."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """The forward process and the training loss (method: forward process and objectives)."""

    weight: Literal["rdm_linear", "elbo", "constant", "cart"] = "rdm_linear"
    """Weight of a masked token's cross-entropy at noise level t; ``dlm ls objectives`` explains
    each. Masked-LM pretraining as in the literature: constant, with the normaliser masked."""
    cart_p: float = 0.1
    """weight cart only: the larger, the more only the nearest clean tokens count."""
    normaliser: Literal["maskable", "masked", "tokens"] = "maskable"
    """What the weighted sum is divided by: maskable tokens of the row, masked tokens of the row,
    or maskable tokens of the global batch."""
    time: Literal["discrete", "continuous"] = "discrete"
    """Noise levels t/T for t in 1..T (the paper), or continuous in (eps, 1]."""
    num_timesteps: int = 50
    """T of the discrete process."""
    schedule: Literal["linear", "cosine", "log_linear"] = "linear"
    """Mask rate at time t: t (the paper, LLaDA), cos(pi/2 (1 - t)) (MaskGIT), or (1 - 0.001) t
    (MDLM)."""
    times: Literal["coupled", "independent", "low_discrepancy"] | None = None
    """How the noise levels of a step are drawn: two coupled ones a row (RDM; doubles the rows of a
    step), one a row, or one a row with all rows of the step spread evenly (MDLM). None: coupled,
    unless ``mask_rate`` fixes the level."""
    rate_range: tuple[float, float] = (0.0, 1.0)
    """Draw only noise levels with mask rates between; narrower than 0 to 1 it truncates the
    likelihood bound."""
    canvas_padding: Literal["trained", "first_end_only"] = "trained"
    """With ``data.canvas_length``: every end token of the canvas counts in the loss and its
    normaliser (LLaDA, Dream), or of the end tokens the first alone; noise hits all of them either
    way. Where most of the canvas is padding, a model that is trained on all of it is sure of end
    tokens first, and samplers that set the surest positions first (llada) end answers too early:
    ``generation.block_length`` and ``generation.end_last`` are there against it."""
    min_time: float = 1e-3
    """eps of the continuous process: it truncates the likelihood bound."""
    mask_rate: float | None = None
    """pretrain only: a fixed mask rate (BERT: 0.15). None draws it from the forward process,
    which prepares the network for diffusion."""
    replace_80_10_10: bool = False
    """pretrain only: of the chosen tokens mask 80 %, replace 10 % at random, keep 10 %."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its learning-rate schedule."""

    lr: float = 5e-5
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's betas."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.01
    """Decoupled weight decay, applied to matrices only (not to biases and norms)."""
    schedule: Literal["inverse_sqrt", "linear", "cosine", "constant"] = "inverse_sqrt"
    """Learning rate after warm-up; linear and cosine end at ``final_lr_ratio`` x lr."""
    warmup_steps: int | None = None
    """Steps of linear warm-up from 0. Default: 1 % of the steps (the paper)."""
    final_lr_ratio: float = 0.0
    """Where linear and cosine end, as a share of ``lr``."""
    gradient_clip: float | None = 1.0
    """Largest gradient norm; None does not clip."""


@dataclass(frozen=True)
class TrainConfig:
    """How long and in what portions a stage trains."""

    steps: int = 1000
    """Optimizer steps."""
    global_batch_size: int | None = None
    """Rows per optimizer step over all devices. Default: 64, unless ``global_batch_tokens`` is
    given."""
    global_batch_tokens: int | None = None
    """In place of it, tokens per optimizer step over all devices: as many rows of like length as
    fit padded, or with ``length_grouping: 0`` as many as their own tokens fit."""
    micro_batch_size: int | None = _where(None)
    """Rows per device and forward pass; None: global_batch_size / devices. The rest is
    accumulated."""
    micro_batch_tokens: int | None = _where(None)
    """With ``global_batch_tokens``: about so many tokens per device and forward pass; None: all of
    a device's at once."""
    layout: Literal["auto", "padded", "packed"] = _where("auto")
    """What the network is given: a row of its own for each sample, padded to the longest, or
    rows of up to ``data.max_length`` tokens that samples share without seeing each other. Noise,
    losses and batches are the same; a length stage is always padded. auto: packed where attention
    can tell samples apart without a mask (docs/speed.md); where it cannot, the stage says why."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Lightning's precision; weights and the loss stay in float32. 16-mixed needs a GPU."""
    ema_decay: float | None = None
    """Validate and export an exponential moving average of the trained weights, in float32:
    average = d x average + (1 - d) x weights after every step, d = min(ema_decay, (1+n)/(10+n))
    after n steps, so that it does not remember the start. E.g. 0.999; None: the weights."""
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy; the paper: 0 from a pretrained encoder, 0.1 from
    scratch."""
    on_nonfinite: Literal["stop", "skip"] = _where("stop")
    """A loss or gradient norm that is not finite: stop names the step and its samples, and keeps
    the checkpoint from before; skip leaves the optimizer's step out (weights and moments stay, the
    schedule, the data and the count of steps go on), says so, counts it, and stops after ten in a
    row. Not in the fingerprint, although a step that is left out changes the numbers: a stage that
    stopped can so be continued with skip, and the manifest tells how many steps were left out."""
    length_grouping: int = 50
    """Rows of like length are batched together within windows of so many batches; 0: data order
    alone decides. A length stage never groups: there the length is the label, and a batch of like
    labels would teach each step the length of its own batch."""

    @property
    def batch_rows(self) -> int | None:
        """Rows per step; None where tokens are counted."""
        return self.global_batch_size or (None if self.global_batch_tokens else DEFAULT_BATCH_SIZE)


@dataclass(frozen=True)
class ValidationConfig:
    """What is measured during training; with ``export: best`` it decides the exported weights."""

    every_n_steps: int = 500
    """Validate after so many optimizer steps, and at the end."""
    batch_size: int = _where(64)
    """Rows per device and forward pass."""
    max_rows: int | None = 1000
    """Rows of the validation loss, spread evenly over all of them; None: all."""
    generate_rows: int = 200
    """Rows that are also generated and scored; 0: none."""
    metric: MetricName = "bleu"
    """The generated score."""
    export: Literal["best", "last"] | None = None
    """Which weights the stage hands on. Default: best by the generated score where there is one
    (as in the paper), else last for pretrain and best by the loss for length."""


@dataclass(frozen=True)
class GenerationConfig:
    """How text is generated; shown beside every score."""

    sampler: str = "reparam-uncond-deterministic-cosine"
    """Name of a sampler; ``dlm ls samplers`` lists them."""
    num_iterations: int = 10
    """Iterations M of the reverse process."""
    length: Literal["predicted", "oracle", "canvas"] | None = None
    """Lengths from the length predictor, from the reference, or from the answer itself: a canvas of
    ``canvas_length`` tokens is decoded and cut at its first end token. None: canvas for a model
    that was trained with one and has no length predictor, else predicted."""
    canvas_length: int | None = None
    """length canvas only: tokens of the canvas. None: as in training (``data.canvas_length``)."""
    length_beam: int = 5
    """Number of predicted lengths decoded and reranked; not read with a canvas."""
    rerank: Literal["mean", "joint", "mbr"] = "mean"
    """Which of them is given: mean, the one of the highest mean log-probability of its tokens (the
    paper); joint, of the highest joint probability of length and tokens; mbr, the one that agrees
    most with the others by chrF (minimum Bayes risk)."""
    temperature: float | None = None
    """Draw tokens in proportion to p^(1/temperature); 0 takes the likeliest. None here and below:
    what the sampler says."""
    top_k: int | None = None
    """Draw from so many of the likeliest tokens; needs a temperature."""
    top_p: float | None = None
    """Draw from the smallest set of tokens with so much probability; needs a temperature."""
    score: Literal["log_probability", "margin", "entropy", "random"] | None = None
    """How sure the network is of a position."""
    threshold: float | None = None
    """fast-dllm only: tokens likelier than this are set at once."""
    entropy_bound: float | None = None
    """eb only: so many positions are set at once as their entropy allows, in nats."""
    guidance: float | None = None
    """Classifier-free guidance w: u + (w+1)(c-u) with and without the prompt; doubles the network
    calls."""
    block_length: int | None = None
    """Answer in blocks of so many tokens from left to right, ``num_iterations`` each; it must
    divide every length. On a canvas an answer is done with the block that holds its end."""
    end_last: bool | None = None
    """length canvas only: positions that would be end tokens are set behind all others (of a
    block). For samplers that choose positions by how sure the network is of them."""
    prompt_cache: int | None = None
    """Approximate, for bidirectional attention: keys and values of what stands before the canvas
    are computed anew only in every so many-th iteration, in between the canvas alone. None: in
    every iteration. Attention prefix_lm needs no approximation: there they never change."""
    seed: int = 0
    """For samplers that draw at random."""
    batch_tokens: int = _where(8192)
    """Largest padded size of a decoding batch, in tokens."""
    beam_size: int = 5
    """autoregressive only: beam size, 1 is greedy."""
    length_penalty: float = 1.0
    """autoregressive only: hypotheses are ranked by log-probability / length^penalty."""
    max_new_tokens: int = 128
    """autoregressive only: longest output."""


@dataclass(frozen=True)
class LengthConfig:
    """The length predictor: one encoder layer over the frozen backbone's prompt features."""

    max_response_length: int = 128
    """Number of classes: response lengths 1..max in tokens, without the end token."""
    num_heads: int = 4
    """Attention heads of its encoder layer."""
    dropout: float = 0.1
    """Its dropout."""


@dataclass(frozen=True)
class SystemConfig:
    """One row of an evaluation table: a model and how it generates."""

    model: str = ""
    """Name of an earlier stage, or a Hugging Face directory."""
    generation: dict[str, Any] = field(default_factory=dict)
    """Fields of ``generation`` that differ for this system."""


@dataclass(frozen=True)
class LikelihoodConfig:
    """How tasks of kind perplexity and multiple_choice estimate a likelihood; None: as the task
    says."""

    estimator: Literal["exactly_l", "bernoulli", "chain_rule"] | None = None
    """exactly_l masks l tokens, l uniform (LLaDA); bernoulli each with probability t (MDLM), of
    greater variance; chain_rule goes from left to right, exactly, in as many rows as tokens."""
    samples: int | None = None
    """Draws for each text (not for chain_rule), at least 2."""
    seed: int | None = None
    """Seed of the draws."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Stage kind ``evaluate``: systems x tasks, with intervals and paired comparisons."""

    systems: dict[str, SystemConfig] = field(default_factory=dict)
    """The systems, by the name shown in the table."""
    tasks: list[str] = field(default_factory=list)
    """Names of shipped tasks (``dlm ls tasks``) or task files."""
    only: dict[str, list[str]] = field(default_factory=dict)
    """System name -> the tasks it is evaluated on; default all."""
    compare: list[list[str]] = field(default_factory=list)
    """Pairs of systems: the first minus the second, with a paired bootstrap interval."""
    limit: int | None = None
    """Only the first so many rows of each task."""
    too_long: Literal["error", "skip"] = "error"
    """Tasks that generate: a prompt that leaves no room for an answer in the model's positions is
    refused before anything is run, or its row is left out and counted (the paper, section 4.3)."""
    oracle_lengths: bool = True
    """Beside every system with predicted lengths a row "NAME, oracle length" of the same answers
    with the references' lengths, on tasks that generate, unless another system already has them.
    It decodes one candidate a prompt, the other ``generation.length_beam`` of them."""
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    """For the tasks that estimate one."""
    bootstrap_samples: int = 1000
    """Resamples of the bootstrap."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Resuming; never changes the numbers."""

    every_n_steps: int = _where(200)
    """Save the complete training state after so many optimizer steps."""
    keep: int = _where(2)
    """Newest checkpoints kept, the best one comes on top."""
    background: bool = _where(True)
    """Write while training goes on: it waits only for a copy of its state in the host's memory,
    which is kept for the next save. Off, it waits for the disk."""


@dataclass(frozen=True)
class HardwareConfig:
    """Where it runs; never what."""

    accelerator: Literal["auto", "cpu", "gpu"] = _where("auto")
    """Device type."""
    devices: int | None = _where(None)
    """Devices per node. Default: all GPUs, or one CPU process."""
    num_nodes: int = _where(1)
    """Number of nodes."""
    strategy: Literal["auto", "ddp", "zero1", "zero2", "zero3", "fsdp"] = _where("auto")
    """auto: one device, or DDP on several. DeepSpeed's ZeRO cuts over the devices the optimizer's
    state (zero1), the gradients too (zero2), the weights too (zero3); it runs on CPUs as well. A
    checkpoint of one is continued by any other, on any number of devices."""
    offload: Literal["none", "optimizer", "parameters"] = _where("none")
    """zero1 to zero3: keep the optimizer's state in the host's memory; zero3 alone: the parameters
    too. Slower, for models that do not fit otherwise."""
    max_time: str | None = _where(None)
    """How long one attempt may take, from the start of the process: 3h30m, 45m, 3300s, or in
    quotes "00:55:00". Between two steps, when another one and a save may come too late, the stage
    saves and the run ends with exit code 75: run the same command again. None: no limit."""
    timeout_s: float | None = _where(None)
    """Strategies ddp and zero1 to 3: how long a rank waits for the others in a collective operation
    before it gives up. Longer than the longest validation of one rank. None: 30 minutes."""
    num_workers: int = _where(0)
    """Processes that prepare batches; the order of samples does not depend on them."""
    num_threads: int | None = _where(None)
    """CPU threads of torch; None leaves torch's choice."""
    compile: bool = _where(False)
    """Train a network that is compiled in place by torch.compile. Generation is not compiled: it
    gained nothing to speak of on a CPU (benchmarks/README.md)."""
    strict_speed: bool = _where(False)
    """Where packed rows cannot take the fast attention of whole documents (device, precision,
    dropout of attention on a GPU, attention pattern), stop and say why, not only say so."""
    activation_checkpointing: bool = _where(False)
    """Keep only the input of each transformer layer, and compute what is inside again in the
    backward pass: less memory, about a third more time, the same numbers. A length stage, whose
    backbone is frozen, has nothing to gain and ignores it."""


@dataclass(frozen=True)
class LoggingConfig:
    """What is written while a stage runs."""

    every_n_steps: int = _where(20)
    """One line and one row of metrics.csv after so many steps."""
    samples: int = _where(8)
    """Validation rows whose generated text is kept in samples/."""


@dataclass(frozen=True)
class Sections:
    """The sections that a recipe gives as defaults and a stage refines."""

    data: DataConfig = field(default_factory=DataConfig)
    """Rows, prompts and responses."""
    tokenizer_training: TokenizerConfig = field(default_factory=TokenizerConfig)
    """Stage kind tokenizer."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The backbone, where it does not come from ``init_from``."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters in place of training every weight."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Noise and loss."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Steps and batches."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Scores during training."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """Decoding."""
    length: LengthConfig = field(default_factory=LengthConfig)
    """Stage kind length."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Stage kind evaluate."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Resuming."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """Devices, workers, strategy."""
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    """Logs and samples."""


@dataclass(frozen=True)
class StageConfig(Sections):
    """One stage of the chain."""

    kind: StageKind = "pretrain"
    """What the stage does. Required."""
    init_from: str | None = None
    """Weights (and tokenizer) to start from: an earlier stage, a Hugging Face directory or a hub
    name. None: the ``model`` section."""
    tokenizer: str | None = None
    """Tokenizer of a model from scratch: an earlier stage, a directory or a hub name."""
    seed: int | None = None
    """Seed of this stage. Default: the recipe's."""
    description: str = _where("")
    """One line for tables."""


@dataclass(frozen=True)
class RecipeConfig(Sections):
    """A recipe: defaults, and the chain of stages in order."""

    name: str = ""
    """Name of the recipe; its run directory is runs/<name>. Default: the file's name."""
    description: str = _where("")
    """One line for tables."""
    seed: int = 0
    """Seed of every stage that does not set its own."""
    serve: str | None = _where(None)
    """The stage that ``dlm generate RUN`` uses. Default: the last trained one."""
    sweep: dict[str, Any] = field(default_factory=dict, metadata={"semantic": False})
    """One run for every cell of a grid. Axis -> values: a setting and a list of its values,
    ``seed: [1, 2, 3]``, or any name and the named settings of each step, ``size: {small:
    {model.hidden_size: 64}, large: {model.hidden_size: 128, optim.lr: 5e-4}}``. Settings mean what
    they mean on the command line. A cell is an ordinary run in RUN_DIR/<cell>."""
    license: str | None = _where(None)
    """Licence of the exported model, for its card: an identifier of the Hugging Face hub, e.g.
    apache-2.0. It is yours to choose, within what the data and the base model allow."""
    languages: list[str] = field(default_factory=list, metadata={"semantic": False})
    """Languages of the exported model, for its card, e.g. [en, de]."""
    stages: dict[str, StageConfig] = field(default_factory=dict)
    """The stages by name, in the order they run. ``null`` removes one that was inherited."""


SECTIONS_OF_KIND: dict[str, tuple[str, ...]] = {
    "tokenizer": ("data", "tokenizer_training"),
    "pretrain": ("data", "model", "lora", "objective", "optim", "train", "validation"),
    "adapt": (
        "data", "model", "lora", "objective", "optim", "train", "validation", "generation",
    ),
    "instruct": (
        "data", "model", "lora", "objective", "optim", "train", "validation", "generation",
    ),
    "length": ("data", "length", "optim", "train", "validation"),
    "autoregressive": ("data", "model", "lora", "optim", "train", "validation", "generation"),
    "evaluate": ("evaluation", "generation"),
}  # fmt: skip
"""The sections that decide a stage of each kind; any other section set on it is refused
(checkpoint, hardware and logging are read by every kind)."""
