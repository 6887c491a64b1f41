"""Strategies over several devices, and training state that any of them can continue."""
