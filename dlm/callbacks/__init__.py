"""Lightning callbacks."""

VALIDATION_LOSS = "validation/loss"
"""Name of the logged loss over the validation rows."""
