"""Guests that do everything wrong. `make fuzz`, or `python -m tests.fuzz --help`."""
