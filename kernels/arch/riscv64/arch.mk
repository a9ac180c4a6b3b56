TRIPLE := riscv64-linux-gnu
EMULATION := elf64lriscv
# RV64GC's instructions without F and D, and without what a global pointer would need.
ARCH_FLAGS := -march=rv64imac_zicsr -mabi=lp64 -mcmodel=medany -mstrict-align -msmall-data-limit=0

COMMON += device_tree.c
START := boot.S ctz.c
INTERRUPTS := trap_entry.S interrupt.c
OTHER_TIMER := sbi_timer.c
OTHER_CPUS := other_cpu.S wake.c
