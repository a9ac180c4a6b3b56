/* What a CPU can do by itself: run, wait, fault; and its siblings. */
#include "command.h"
#include "machine.h"
#include "serial.h"
#include "shell.h"
#include "smp.h"

#define SPIN_CHUNK 50000
#define NOT_MAPPED 0x123456789000
#define MSR_EFER 0xc0000080

static void spin_chunk(void)
{
    uint32_t turns = SPIN_CHUNK;
    __asm__ volatile("1: dec %0; jnz 1b" : "+r"(turns));
}

COMMAND(spin, "[MILLIONS]", "busy loop for so many turns or until a key")
{
    uint64_t millions;
    if (!optional(argc, argv, 1, "millions", 0, &millions))
        return;
    if (argc == 1) {
        print("spinning until a key\n");
        while (serial_get() < 0)
            spin_chunk();
        return;
    }
    for (; millions; millions--) {
        for (unsigned i = 0; i < 1000000 / SPIN_CHUNK; i++) {
            if (serial_interrupted())
                return;
            spin_chunk();
        }
    }
}

COMMAND(halt, "", "sleep until a key")
{
    print("halted until a key\n");
    wait_key();
}

COMMAND(fault, "divide|page|undefined|triple", "raise a CPU exception; triple is the end")
{
    const char *kind = argc > 1 ? argv[1] : "";
    if (text_equal(kind, "divide"))
        __asm__ volatile("div %0" : : "r"(0), "a"(1), "d"(0));
    else if (text_equal(kind, "page"))
        read64(NOT_MAPPED);
    else if (text_equal(kind, "undefined"))
        __asm__ volatile("ud2");
    else if (text_equal(kind, "triple"))
        machine_triple_fault();
    else
        print("fault: divide, page, undefined or triple?\n");
}

COMMAND(smp, "[CPUS]", "start the other CPUs")
{
    uint64_t expected;
    if (!optional(argc, argv, 1, "cpus", option(start_info, "cpus", 0), &expected))
        return;
    if (expected > 1 + SMP_OTHERS_MAX) {
        print("smp: at most %u cpus\n", 1 + SMP_OTHERS_MAX);
        return;
    }
    smp_report(smp_start(expected), expected);
}

COMMAND(regs, "", "show the control registers")
{
    uint64_t cr0, cr2, cr3, cr4, rsp, rflags;
    uint32_t efer, efer_high;
    __asm__("mov %%cr0, %0" : "=r"(cr0));
    __asm__("mov %%cr2, %0" : "=r"(cr2));
    __asm__("mov %%cr3, %0" : "=r"(cr3));
    __asm__("mov %%cr4, %0" : "=r"(cr4));
    __asm__("mov %%rsp, %0" : "=r"(rsp));
    __asm__("pushfq; pop %0" : "=r"(rflags));
    __asm__("rdmsr" : "=a"(efer), "=d"(efer_high) : "c"(MSR_EFER));
    print("cr0 0x%08lx  cr2    0x%08lx  cr3 0x%08lx\n", cr0, cr2, cr3);
    print("cr4 0x%08lx  efer   0x%08x\n", cr4, efer);
    print("rsp 0x%08lx  rflags 0x%08lx\n", rsp, rflags);
}
