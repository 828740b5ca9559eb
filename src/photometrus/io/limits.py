"""How long a server is waited for, and how much is taken from it."""

from dataclasses import dataclass

BYTES_PER_GB = 1_000_000_000


@dataclass(frozen=True)
class TransferConfig:
    """What a transfer from the archive may take. A whole ramp of a chip has 67 MB."""

    silence_s: float = 60.0  # without a byte: the connection counts as broken
    max_file_s: float = 3600.0  # for one file, with all tries
    max_file_gb: float = 1.0  # for one file, and for what is unpacked of it

    @property
    def max_file_bytes(self) -> int:
        """The largest file that is taken."""
        return int(self.max_file_gb * BYTES_PER_GB)
