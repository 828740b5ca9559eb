"""The recipe of one chip: ramps on disk to a stack."""

from photometrus.chip.recipe import reduce_chip as reduce_chip
