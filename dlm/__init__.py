"""A platform for diffusion language models: pretrain, adapt, tune, generate, evaluate."""
