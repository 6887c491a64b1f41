"""``python -m dlm``: the command line."""

import sys

from dlm.cli import main

if __name__ == "__main__":
    sys.exit(main())
