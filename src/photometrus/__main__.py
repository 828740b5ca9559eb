"""``python -m photometrus``: the command line."""

import sys

from photometrus.cli import main

if __name__ == "__main__":
    sys.exit(main())
