"""Where a recipe runs: a chain of Slurm jobs or a Kubernetes JobSet, which call `dlm run`."""
