"""What a look at something has shown."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and how to mend it.

    state : `problem` when a reduction will fail, `warning` when one may, or lacks something
    """

    what: str
    state: State
    words: str
    mend: str = ""
