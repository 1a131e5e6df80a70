"""Train, convert, prove equal, write the bundle."""
