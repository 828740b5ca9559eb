"""Numba kernels: arrays in, arrays out; they know nothing of us."""
