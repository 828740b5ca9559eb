"""The two pages of a stack's photometry: its calibration; its depth and its PSF."""
