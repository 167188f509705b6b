"""``python -m client.soak``: see :mod:`client.loadtest.soak`."""

import sys

from client.loadtest.soak import main

if __name__ == "__main__":
    sys.exit(main())
