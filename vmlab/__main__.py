"""`python -m vmlab`."""

from vmlab.cli.command import entry

entry()
