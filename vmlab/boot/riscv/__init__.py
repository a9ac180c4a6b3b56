"""Kernels for RISC-V machines."""
