"""`python -m trimaran` is the command `trimaran`."""

import sys

from trimaran.cli import main

sys.exit(main())
