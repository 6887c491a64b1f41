"""The backbone: where it comes from, its vocabulary, its adapters."""

from dataclasses import dataclass, field
from typing import Literal

from dlm.setting import WHEN_SET, where


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
    fresh_head: bool = field(default=False, metadata=WHEN_SET)
    """``pretrained`` was saved without a language model's output layer (a plain encoder, as
    BertModel): begin with a random one, drawn by the stage's seed and the model's own
    initializer_range, over the tied embedding. Only what of the output layer is missing is random,
    and a line says what; a checkpoint that lacks nothing is refused. Such a layer knows no words
    until it has been trained: let a pretrain stage come first. Not read with ``init_from``."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model or tokenizer (``auto_map`` in its files), be it from
    the hub or a directory. Off unless you asked for it; nothing asks on the terminal. Evaluate and
    generate stages read it at the top of the recipe."""
    architecture: Literal[
        "xlm-roberta",
        "roberta",
        "bert",
        "modernbert",
        "eurobert",
        "esm",
        "albert",
        "deberta-v2",
        "nomic_bert",
        "gpt2",
        "llama",
    ] = "xlm-roberta"
    """Architecture from scratch. Other types of models are read with ``pretrained`` alone."""
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
    response_positions: Literal["continued", "fixed"] | None = field(
        default=None, metadata=WHEN_SET
    )
    """Where responses stand, seen from their prompts; read with ``init_from`` too. continued: right
    behind the prompt, whose length differs from row to row. fixed: from ``response_start`` on, so
    that token i of every response has the same position. It belongs to the model and is kept with
    its export. None: as in the model that the stage starts from; of a model that has seen no
    responses fixed, but continued in instruct, for causal language models, for networks that read
    distances in the row (MPNet, DeBERTa), and where the rows leave no room for one start (a line
    says so)."""
    response_start: int | None = field(default=None, metadata=WHEN_SET)
    """response_positions fixed: the position of a response's first token. No prompt may be longer
    (begin and end tokens included), and responses have the positions behind it. None: as in the
    model that the stage starts from; where it has seen no responses, the smallest multiple of 32
    that no prompt of the stage's rows exceeds, or less where the longest response needs the
    room."""
    response_token_type: bool | None = field(default=None, metadata=WHEN_SET)
    """Whether response tokens have the network's second token type (BERT's segment B); only for
    networks that have two. None: as in the model that the stage starts from, else no."""
    attention_annealing_steps: int = 0
    """pretrain, adapt and instruct from a causal language model only: over this many first steps
    the share of later tokens that are seen grows from 0 to 1 (DiffuLLaMA). 0: all are seen."""
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig, metadata=WHEN_SET)
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
    keep_adapter: bool = where(False)
    """Write the adapter itself too, in peft's format, to export/adapter."""
