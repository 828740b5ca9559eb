"""One science step per file: its config and pure functions."""
