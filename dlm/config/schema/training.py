"""How a stage trains: noise and loss, optimizer, steps and batches, scores on the way."""

from dataclasses import dataclass, field
from typing import Literal

from dlm.setting import WHEN_SET, where

MetricName = Literal["exact_match", "bleu", "chrf", "bleu_lowercase", "chrf_lowercase"]


DEFAULT_BATCH_SIZE = 64
"""Rows per step where a recipe gives neither rows nor tokens."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """The forward process and the training loss (method: forward process and objectives)."""

    weight: Literal["rdm_linear", "elbo", "constant", "cart"] = "rdm_linear"
    """Weight of a masked token's cross-entropy at noise level t; ``dlm ls objectives`` explains
    each. Masked-LM pretraining as Hugging Face's masked LM: constant, masked_tokens."""
    cart_p: float = 0.1
    """weight cart only: the larger, the more only the nearest clean tokens count."""
    normaliser: Literal["maskable", "masked", "tokens", "masked_tokens"] = "maskable"
    """What the weighted sum is divided by: maskable or masked tokens of the row, and then the mean
    over rows; or maskable tokens of the global batch; or its masked_tokens (Hugging Face's masked
    LM, CMLM, Dream)."""
    zero_masking: bool | None = field(default=None, metadata=WHEN_SET)
    """The mask token has probability 0 in the loss, as it has in generation (MDLM). None: with the
    weight elbo."""
    time: Literal["discrete", "continuous"] = "discrete"
    """Noise levels t/T for t in 1..T (the paper), or continuous in (eps, 1]."""
    num_timesteps: int = 50
    """T of the discrete process."""
    schedule: Literal["linear", "cosine", "log_linear", "mdlm_cosine"] = "linear"
    """Mask rate at time t: t (the paper, LLaDA), cos(pi/2 (1 - t)) (MaskGIT), or those of MDLM's
    code, (1 - 0.001) t and mdlm_cosine (1 - 0.001) (1 - cos(pi t / 2))."""
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
    prompt_dropout: float = field(default=0.0, metadata=WHEN_SET)
    """Share of training rows whose prompt is masked as a whole, so that the model also learns
    to answer without one; for ``generation.guidance``. Not in validation."""
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
    micro_batch_size: int | None = where(None)
    """Rows per device and forward pass; None: global_batch_size / devices. The rest is
    accumulated. Batches, noise and the loss's mean stay the same; with dropout the draws of
    dropout do not, which are those of a micro-batch: losses then differ as between two seeds."""
    micro_batch_tokens: int | None = where(None)
    """With ``global_batch_tokens``: about this many tokens per device and forward pass; None: all
    of a device's at once."""
    layout: Literal["auto", "padded", "packed"] = where("auto")
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
    on_nonfinite: Literal["stop", "skip"] = where("stop")
    """A loss or gradient norm that is not finite: stop names the step and its samples, and keeps
    the checkpoint from before; skip leaves the optimizer's step out (weights and moments stay, the
    schedule, the data and the count of steps go on), says so, counts it, and stops after ten in a
    row. Not in the fingerprint, although a step that is left out changes the numbers: a stage that
    stopped can so be continued with skip, and the manifest tells how many steps were left out."""
    length_grouping: int = 50
    """Rows of like length are batched together within windows of at most this many batches, none of
    which reaches from one epoch into the next; 0: data order alone decides. A length stage never
    groups: there the length is the label, and a batch of like labels would teach each step the
    length of its own batch."""

    @property
    def batch_rows(self) -> int | None:
        """Rows per step; None where tokens are counted."""
        return self.global_batch_size or (None if self.global_batch_tokens else DEFAULT_BATCH_SIZE)


@dataclass(frozen=True)
class ValidationConfig:
    """What is measured during training; with ``export: best`` it decides the exported weights."""

    every_n_steps: int = 500
    """Validate after this many optimizer steps, and at the end."""
    batch_size: int = where(64)
    """Rows per device and forward pass."""
    max_rows: int | None = 1000
    """Rows of the validation loss, spread evenly over all of them; None: all."""
    generate_rows: int = 200
    """Rows that are also generated and scored; 0: none. Texts, which have no prompt, are not."""
    metric: MetricName | None = None
    """The generated score. Default: bleu; chrf where most validation responses have fewer than four
    words, for which BLEU is 0 (short answers, scripts without blanks between words)."""
    export: Literal["best", "last"] | None = None
    """Which weights the stage hands on. Default: best by the generated score where there is one
    (as in the paper), else last for pretrain and best by the loss for length. Of equal scores the
    lower loss decides, then the later step."""


@dataclass(frozen=True)
class LengthConfig:
    """The length predictor: one encoder layer over the frozen backbone's prompt features."""

    max_response_length: int | None = None
    """Number of classes: response lengths 1..max in tokens, without the end token. Default: the
    longest response of the rows, rounded up to a multiple of 32. Longer responses teach the last
    class, and count as wrong."""
    num_heads: int = 4
    """Attention heads of its encoder layer."""
    dropout: float = 0.1
    """Its dropout."""
    relative: bool = field(default=False, metadata=WHEN_SET)
    """Give each class a second logit, that of the difference between response and prompt in tokens:
    for tasks whose responses are about as long as their prompts, such as translation."""
