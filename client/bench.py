"""``python -m client.bench``: see :mod:`client.loadtest.bench`."""

import sys

from client.loadtest.bench import main

if __name__ == "__main__":
    sys.exit(main())
