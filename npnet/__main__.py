"""``python -m npnet``: the same as the command ``npnet``."""

import sys

from npnet.cli import main

if __name__ == "__main__":  # and not in the processes of ``npnet warmup``
    sys.exit(main())
