"""Lightning callbacks."""

VALIDATION_LOSS = "validation/loss"
"""Name of the logged loss over the validation rows."""
EMPTY_ANSWERS = "validation/empty_answers"
"""The share of generated validation answers that are blank."""
LENGTH_RATIO = "validation/length_ratio"
"""Tokens of those answers by tokens of their references, where answers end themselves."""
