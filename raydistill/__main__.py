"""`python -m raydistill` is the command `raydistill`."""

from raydistill.commands.cli import main

main()
