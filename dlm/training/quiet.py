"""Keep the libraries' chatter out of the way of what a person needs to read."""

import logging
import warnings


def quiet_libraries() -> None:
    """Silence messages that are about settings the platform owns; errors still come through."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    for pattern in (
        ".*does not have many workers.*",
        ".*not resumable.*",
        ".*isn't resumable.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*GPU available but not used.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*nested_tensor.*",
        # Slurm is installed, and the user chose not to use it.
        ".*`srun` command is available.*",
        ".*lr_scheduler.step\\(\\).*",
        # The engine clips; the stage's own clipping, by a measured norm, is not called.
        ".*DeepSpeed handles gradient clipping internally.*",
        # DeepSpeed calls torch by a name that it is about to lose.
        ".*`torch.distributed.\\w+` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)
    # accelerate imports DeepSpeed for a type check when a model is saved; its logger is made then.
    logging.getLogger("DeepSpeed").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Setting accelerator to CPU")
