"""Remembers how each bundle was made, and what it is approved for: MLflow's tracking and model registry."""
