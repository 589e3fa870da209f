"""`python -m slimspec`."""

import sys

from slimspec.cli import main

if __name__ == "__main__":
    sys.exit(main())
