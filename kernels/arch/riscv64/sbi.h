/* The firmware's calls (RISC-V SBI 2.0), by ECALL. */
#ifndef SBI_H
#define SBI_H

#define SBI_BASE 0x10
#define SBI_TIME 0x54494d45
#define SBI_HSM 0x48534d
#define SBI_SRST 0x53525354
#define SBI_HSM_HART_START 0
#define SBI_HSM_HART_STOP 1
#define SBI_SHUTDOWN 0
#define SBI_COLD_REBOOT 1
#define SBI_ALREADY_AVAILABLE -6

#ifndef __ASSEMBLER__
#include "io.h"

struct sbi_answer {
    int64_t error;
    uint64_t value;
};

static inline struct sbi_answer sbi(uint64_t extension, uint64_t function, uint64_t first,
                                    uint64_t second, uint64_t third)
{
    register uint64_t a0 __asm__("a0") = first;
    register uint64_t a1 __asm__("a1") = second;
    register uint64_t a2 __asm__("a2") = third;
    register uint64_t a6 __asm__("a6") = function;
    register uint64_t a7 __asm__("a7") = extension;
    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
    return (struct sbi_answer){a0, a1};
}
#endif

#endif
