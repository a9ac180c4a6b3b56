TRIPLE := aarch64-linux-gnu
EMULATION := aarch64elf
# Strictly aligned: memory may be a device's. Without outlined atomics, which a library would hold.
ARCH_FLAGS := -mstrict-align -mno-outline-atomics -mbranch-protection=none

START := boot.S bootinfo.c
INTERRUPTS := vectors.S interrupt.c
OTHER_TIMER := generic_timer.c
OTHER_CPUS := other_cpu.S wake.c
