"""`python -m docsearch`, the same as `docsearch`."""

import sys

from docsearch.cli import main

if __name__ == "__main__":  # rendering processes import this module too
    sys.exit(main())
