"""A finished model as a directory of its own: weights, a model card, a script that generates."""
