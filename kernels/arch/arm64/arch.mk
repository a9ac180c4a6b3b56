TRIPLE := aarch64-linux-gnu
EMULATION := aarch64elf
# Strictly aligned: memory may be a device's. Without outlined atomics, which a library would hold.
ARCH_FLAGS := -mgeneral-regs-only -mstrict-align -mno-outline-atomics -mbranch-protection=none

COMMON += device_tree.c
START := boot.S
INTERRUPTS := vectors.S interrupt.c
OTHER_TIMER := generic_timer.c
OTHER_CPUS := other_cpu.S wake.c
