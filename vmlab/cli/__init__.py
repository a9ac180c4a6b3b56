"""The command `vmlab`."""
