"""The range of every number of a recipe, declared once: `validate` refuses what lies outside."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dlm.config.schema import StageConfig


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, ends included unless they are open."""

    low: float
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def fits(self, value: float) -> bool:
        """Whether a value lies inside; infinities and what is no number never do."""
        return (
            math.isfinite(value)
            and (self.low < value if self.low_open else self.low <= value)
            and (value < self.high if self.high_open else value <= self.high)
        )

    def __str__(self) -> str:
        if self == UNIT:
            return "between 0 and 1"
        low = f"{'above' if self.low_open else 'at least'} {self.low:,}"
        if self.high == math.inf:
            return low
        return f"{low} and {'below' if self.high_open else 'at most'} {self.high:,}"


MOST_STEPS = 10**9
MOST_ROWS = 10**12
MOST_TOKENS = 2**20
"""Of one row: a million, beyond what any backbone reads."""
MOST_PROCESSES = 1024
"""Devices, workers or threads of one machine."""
HIGHEST_SEED = 2**32 - 1
"""What NumPy and Lightning take."""
MOST_CELLS = 10_000
"""Of a sweep: a cluster's own limit of a job array is lower."""
UNIT = Range(0, 1)
_SHARE = Range(0, 1, high_open=True)
_INSIDE = Range(0, 1, low_open=True, high_open=True)
_POSITIVE = Range(0, low_open=True)
_WIDTH = Range(1, 2**18)
_TOKENS = Range(1, MOST_TOKENS)
_STEPS = Range(1, MOST_STEPS)
_ROWS = Range(1, MOST_ROWS)
_BATCH = Range(1, 2**31 - 1)
SEED = Range(0, HIGHEST_SEED)

_RANGES: tuple[tuple[Range, str], ...] = (
    (SEED, "data.seed generation.seed evaluation.likelihood.seed"),
    (
        _TOKENS,
        "data.max_length data.canvas_length generation.canvas_length model.max_positions "
        "model.response_start generation.top_k generation.block_length generation.prompt_cache "
        "generation.max_new_tokens generation.num_iterations length.max_response_length",
    ),
    (Range(3, MOST_TOKENS), "data.text_blocks"),
    (Range(0, MOST_TOKENS), "generation.min_length"),
    (Range(0, 1000), "data.few_shot.count"),
    (Range(1, 1000), "data.overlap_words"),
    (Range(1, 10**7), "data.few_shot.pool_rows tokenizer_training.vocab_size"),
    (_WIDTH, "model.hidden_size model.num_heads model.intermediate_size length.num_heads"),
    (Range(1, 10_000), "model.num_layers generation.length_beam generation.beam_size"),
    (
        _STEPS,
        "train.steps validation.every_n_steps checkpoint.every_n_steps logging.every_n_steps "
        "objective.num_timesteps",
    ),
    (Range(0, MOST_STEPS), "model.attention_annealing_steps optim.warmup_steps"),
    (
        _BATCH,
        "train.global_batch_size train.micro_batch_size train.global_batch_tokens "
        "train.micro_batch_tokens validation.batch_size generation.batch_tokens",
    ),
    (_ROWS, "validation.max_rows evaluation.limit data.mixture.cap"),
    (Range(0, MOST_ROWS), "validation.generate_rows logging.samples"),
    (Range(1, 10**6), "evaluation.likelihood.samples evaluation.bootstrap_samples checkpoint.keep"),
    (Range(1, MOST_PROCESSES), "hardware.devices hardware.num_threads"),
    (Range(0, MOST_PROCESSES), "hardware.num_workers"),
    (Range(1, 2**16), "hardware.num_nodes"),
    (Range(0, 2**16), "lora.rank train.length_grouping"),
    # Ten years; what a thread can wait for ends not far above.
    (Range(0, 315_360_000, low_open=True), "hardware.timeout_s"),
    (_POSITIVE, "optim.lr optim.eps optim.gradient_clip lora.alpha data.mixture.temperature"),
    (
        Range(0),
        "optim.weight_decay generation.length_penalty generation.temperature "
        "generation.entropy_bound generation.guidance generation.end_penalty",
    ),
    (
        _SHARE,
        "model.dropout train.label_smoothing length.dropout lora.dropout objective.prompt_dropout",
    ),
    (_INSIDE, "objective.mask_rate objective.min_time objective.cart_p train.ema_decay"),
    (UNIT, "optim.final_lr_ratio generation.top_p generation.threshold"),
)
RANGE_OF = {key: allowed for allowed, keys in _RANGES for key in keys.split()}

_AS_SETTING = {
    "generation": "num_iterations canvas_length length_beam block_length prompt_cache beam_size "
    "temperature threshold guidance min_length end_penalty seed",
    "hardware": "devices",
}
"""Options of the command line that are a setting of a section, by its name."""
OF_OPTION = {
    **{name: RANGE_OF[f"{section}.{name}"]
       for section, names in _AS_SETTING.items() for name in names.split()},
    "nodes": RANGE_OF["hardware.num_nodes"], "gpus_per_node": RANGE_OF["hardware.devices"],
    "gpu_memory": Range(0, 10**6, low_open=True), "host_memory": Range(0, 10**9, low_open=True),
    "tflops": Range(0, 10**9, low_open=True), "mfu": Range(0, 1, low_open=True),
    "row_tokens": Range(0, MOST_TOKENS, low_open=True),
    "response_share": Range(0, 1, low_open=True),
    "steps": _STEPS, "warmup": _STEPS, "rows": _ROWS, "limit": _ROWS, "span": _TOKENS,
    "few_shot": RANGE_OF["data.few_shot.count"],
    "likelihood_samples": RANGE_OF["evaluation.likelihood.samples"],
    "max_array_tasks": Range(1, MOST_CELLS), "num_samples": Range(1, 10**6),
}  # fmt: skip
"""Numbers that verbs take: the option's name, with _ for -, and its range."""


def option_outside(options: Mapping[str, Any]) -> str | None:
    """What is wrong with the first number of a command line that lies outside; None: nothing."""
    for name, allowed in OF_OPTION.items():
        value = options.get(name)
        if isinstance(value, int | float) and not allowed.fits(value):
            return f"--{name.replace('_', '-')} must be {allowed}, not {value}"
    return None


OF_SOURCE = {"count": _ROWS, "limit": _ROWS}
"""Numbers of one source."""


def source_numbers(stage: StageConfig) -> Iterator[tuple[str, Range, int]]:
    """Key, range and value of every number that the stage's sources set."""
    for place, sources in (("train", stage.data.train), ("validation", stage.data.validation)):
        for index, source in enumerate(sources):
            for name, allowed in OF_SOURCE.items():
                if (value := getattr(source, name)) is not None:
                    yield f"data.{place}[{index}].{name}", allowed, value
