"""Which samples make up which step, and how they become tensors."""
