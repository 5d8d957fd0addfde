"""python -m minnet: the command line, where the script is not on the path."""

import sys

from minnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
