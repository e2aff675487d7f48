"""`python -m raydistill` is the command `raydistill`."""

from raydistill.cli import main

main()
