TRIPLE := x86_64-linux-gnu
EMULATION := elf_x86_64
ARCH_FLAGS := -mgeneral-regs-only -m64 -mcmodel=small -mno-red-zone -fcf-protection=none

START := boot.S bootinfo.c
INTERRUPTS := interrupt_entry.S interrupt.c
OTHER_TIMER := pit.c
OTHER_CPUS := trampoline.S wake.c
