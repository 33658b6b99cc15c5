"""``python -m xenoglot``: the program, as a module."""

import sys

from xenoglot.cli import main

if __name__ == "__main__":  # worker processes import this file again
    sys.exit(main())
