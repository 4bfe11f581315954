"""`python -m freeswim`: see freeswim.cli."""

import sys

from freeswim.cli import main

if __name__ == "__main__":
    sys.exit(main())
