"""What a recipe must fulfil before anything runs: findings with their place and remedy."""
