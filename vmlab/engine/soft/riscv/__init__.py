"""RISC-V processors, of 64 and 32 bits, in software."""
