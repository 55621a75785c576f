"""``python -m npnet``: the same as the command ``npnet``."""

import sys

from npnet.cli import main

sys.exit(main())
