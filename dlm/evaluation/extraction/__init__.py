"""Answers found in texts: numbers and letters, by rules that name their source.

A reading that is doubtful is none: the answer is "not extracted", never another one.
"""
