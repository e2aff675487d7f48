"""`python sweep.py ...` is `raydistill sweep ...`, in one file: `ray submit cluster.yaml sweep.py -- ...`."""

import sys

from raydistill.commands.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "sweep")
    main()
