"""Tokenizers: their special tokens, text that stays text, and training one."""
