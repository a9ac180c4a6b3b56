"""How arm64 kernels are loaded."""
