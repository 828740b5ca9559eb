"""The recipe of one stack's photometry: sources, zero point, limits, targets, their files."""
