"""The tests mirror `vmlab/`: `vmlab/core/bus.py` is tested by `tests/core/test_bus.py`.

This `__init__.py` makes `tests.support` importable and keeps another package called `tests` from being
found first. Folders of tests need none, unless their tests import helpers that lie beside them.
"""
