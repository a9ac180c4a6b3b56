"""Linux guests: fetched without root, checked, kept in a cache, with a small system to boot into.

`kernels.linux()` is the way in (`guest.get`). Beside it: the cache, the two sources, the initramfs.
"""
