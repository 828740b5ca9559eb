"""Figures from arrays and tables: a picture of a stack, the page of a chip."""
