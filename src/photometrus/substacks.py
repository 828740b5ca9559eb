"""Which frames belong to which part of a stack: growing stacks, interleaved stacks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SubstackConfig:
    """Which stacks of a part of the frames are made beside the whole one."""

    growing: bool = False  # the first `frames`, twice as many, ...: does it fade or brighten
    alternating: bool = False  # every other frame, and the others: is it real
    frames: int = 5  # that each growing stack has more than the one before


@dataclass(frozen=True)
class Substack:
    """A stack of a part of the frames: its name in the products, the frames' numbers from 0."""

    name: str
    frames: tuple[int, ...]


def substacks(n_frames: int, config: SubstackConfig) -> list[Substack]:
    """The parts of a stack of `n_frames` frames in order of time.

    Growing: ``inc005``, ``inc010``, ... the first 5, 10, ..., but not all: that is the stack
    itself. Alternating: ``alt1``, ``alt2``, the frames 1, 3, ... and 2, 4, ..., when there are two.
    """
    parts = []
    if config.growing:
        step = max(1, config.frames)
        parts += [Substack(f"inc{n:03d}", tuple(range(n))) for n in range(step, n_frames, step)]
    if config.alternating and n_frames > 1:
        parts += [Substack(f"alt{k + 1}", tuple(range(k, n_frames, 2))) for k in range(2)]
    return parts
