"""What a training stage will take: parameters, memory, work and disk. Arithmetic, no Lightning.

Sizes are in bytes, work in floating-point operations; docs/plan.md gives the formulas in one place.
"""
