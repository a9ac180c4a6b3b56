"""Devices of QEMU's RISC-V machine "virt"."""
