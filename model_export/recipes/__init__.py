"""One recipe per model."""
