"""``python -m featherseg``, which ``torchrun -m featherseg train ...`` needs."""

import sys

from featherseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
