"""Stubs of the public API, generated from proto/ by `make proto`."""
