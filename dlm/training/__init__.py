"""Training one stage."""
