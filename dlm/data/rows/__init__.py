"""Examples as rows of token ids: in memory, or in files that are mapped into it."""
