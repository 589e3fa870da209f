"""`python -m slimcheck`."""

import sys

from slimcheck.cli import main

if __name__ == "__main__":
    sys.exit(main())
