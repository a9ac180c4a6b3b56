"""The software engine's PC: its CPU's state, interrupt controllers and timer."""
