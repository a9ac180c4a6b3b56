"""How kernels of a PC are loaded and entered."""
