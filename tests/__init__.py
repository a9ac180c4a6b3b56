"""The tests mirror `vmlab/`: `vmlab/core/bus.py` is tested by `tests/core/test_bus.py`.

This is the only `__init__.py` among the tests: it makes `tests.support` importable and keeps another
package called `tests` from being found first. Folders of tests need none.
"""
