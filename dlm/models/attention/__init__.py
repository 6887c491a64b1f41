"""Who sees whom: masks, packed rows, annealing to both sides, and prompts that are kept."""
