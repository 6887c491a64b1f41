"""The special tokens that a sequence is put together from, under one set of names."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from dlm.errors import UserError


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids. A row is: begin, prompt, end, response, end."""

    begin: int
    """First token of a sequence (<s>, [CLS])."""
    end: int
    """Ends the prompt and the response (</s>, [SEP])."""
    pad: int
    """Fills a batch; never attended to."""
    mask: int
    """The absorbing state."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "SpecialTokens":
        """Read them from a tokenizer; one without a begin token (Qwen) begins with its end token,
        behind which its texts began in pretraining.

        Raises:
            UserError: The tokenizer lacks one that a diffusion language model needs, or its mask
                token is another one too.
        """
        end = first(tokenizer.sep_token_id, tokenizer.eos_token_id)
        found = {
            "begin": first(tokenizer.cls_token_id, tokenizer.bos_token_id, end),
            "end": end,
            "pad": tokenizer.pad_token_id,
            "mask": tokenizer.mask_token_id,
        }
        missing = [name for name, value in found.items() if value is None]
        if missing:
            raise UserError(
                f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no "
                f"{' and no '.join(missing)} token: use a masked language model, or adapt a causal "
                "one first (stage kinds pretrain, adapt and instruct give it a mask token)"
            )
        others = {"unknown": tokenizer.unk_token_id, "padding": found["pad"], "end": end}
        for name, value in others.items():
            if value == found["mask"]:
                raise UserError(
                    f"the tokenizer of {tokenizer.name_or_path or 'this model'} has one token, "
                    f"{tokenizer.mask_token!r}, for mask and {name}: what is masked could not be "
                    "told apart. Give it a mask token of its own (add_special_tokens, then "
                    "resize_token_embeddings), and train the model with it"
                )
        return cls(**found)


def first(*values: int | None) -> int | None:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)
