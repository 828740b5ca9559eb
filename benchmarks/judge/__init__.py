"""The judge: a finished reduction measured against the truth of the simulation it came from.

It shares no algorithm with the pipeline. It reads products (stack, weight map, sky-subtracted
frames, run.json) and truth (``truth.fits``, ``meta.json``) and nothing else. Pixels are 0-based
``[row, column]``; ``east``, ``north`` are arcsec from the middle of the chip.
"""
