"""Compare rows with what a model was trained on: the command ``forest-drift``."""
