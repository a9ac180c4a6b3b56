"""`python -m vmlab`."""

from vmlab.cli import entry

entry()
