/* Single instructions, and accesses of an exact width. tp holds the number of the hart. */
#ifndef CPU_H
#define CPU_H

#include <stdint.h>

/* One load or store, and nothing else: its width is the device's business. */
#define MMIO_ACCESS(bits, load, store)                                                             \
    static inline uint##bits##_t read##bits(uintptr_t address)                                     \
    {                                                                                              \
        uint##bits##_t value;                                                                      \
        __asm__ volatile(load " %0, 0(%1)" : "=r"(value) : "r"(address) : "memory");               \
        return value;                                                                              \
    }                                                                                              \
    static inline void write##bits(uintptr_t address, uint##bits##_t value)                        \
    {                                                                                              \
        __asm__ volatile(store " %z0, 0(%1)" : : "rJ"(value), "r"(address) : "memory");            \
    }
MMIO_ACCESS(8, "lbu", "sb")
MMIO_ACCESS(16, "lhu", "sh")
MMIO_ACCESS(32, "lw", "sw")
MMIO_ACCESS(64, "ld", "sd")
#undef MMIO_ACCESS

/* Reads where nothing may be: all ones then, also where QEMU raises an exception. After interrupt_init(). */
uint32_t probe32(uintptr_t address);

#define CSR_READ(name)                                                                             \
    ({                                                                                             \
        uint64_t value_;                                                                           \
        __asm__ volatile("csrr %0, " #name : "=r"(value_) : : "memory");                           \
        value_;                                                                                    \
    })
#define CSR_WRITE(name, value)                                                                     \
    __asm__ volatile("csrw " #name ", %0" : : "r"((uint64_t)(value)) : "memory")
#define CSR_SET(name, value)                                                                       \
    __asm__ volatile("csrs " #name ", %0" : : "r"((uint64_t)(value)) : "memory")

static inline unsigned hart(void)
{
    uint64_t number;
    __asm__("mv %0, tp" : "=r"(number));
    return number;
}

/* SIE is bit 1 of sstatus. */
static inline void interrupts_on(void)
{
    __asm__ volatile("csrsi sstatus, 2" : : : "memory");
}

static inline void interrupts_off(void)
{
    __asm__ volatile("csrci sstatus, 2" : : : "memory");
}

/* Called with interrupts off. A masked interrupt ends wfi too, so a wake-up cannot slip between the
 * caller's test and the sleep. */
static inline void sleep_until_interrupt(void)
{
    __asm__ volatile("wfi; csrsi sstatus, 2; csrci sstatus, 2" : : : "memory");
}

/* Bytes, in assembly: a loop would become a call of memcpy. */
static inline void cpu_copy(void *to, const void *from, uint64_t length)
{
    uint64_t byte;
    __asm__ volatile("beqz %2, 2f\n"
                     "1: lbu %3, 0(%1)\n"
                     "sb %3, 0(%0)\n"
                     "addi %1, %1, 1\n"
                     "addi %0, %0, 1\n"
                     "addi %2, %2, -1\n"
                     "bnez %2, 1b\n"
                     "2:"
                     : "+r"(to), "+r"(from), "+r"(length), "=&r"(byte)
                     :
                     : "memory");
}

static inline void cpu_fill(void *to, int byte, uint64_t length)
{
    __asm__ volatile("beqz %1, 2f\n"
                     "1: sb %2, 0(%0)\n"
                     "addi %0, %0, 1\n"
                     "addi %1, %1, -1\n"
                     "bnez %1, 1b\n"
                     "2:"
                     : "+r"(to), "+r"(length)
                     : "r"(byte)
                     : "memory");
}

/* Does nothing so many times; the compiler cannot know. */
static inline void cpu_spin(uint32_t turns)
{
    uint64_t left = turns;
    __asm__ volatile("1: addi %0, %0, -1; bnez %0, 1b" : "+r"(left));
}

/* Zihintpause's hint, by its number: an assembler may not know the name. */
static inline void cpu_relax(void)
{
    __asm__ volatile(".4byte 0x0100000f" : : : "memory");
}

_Noreturn static inline void stop(void)
{
    interrupts_off();
    for (;;)
        __asm__ volatile("wfi" : : : "memory");
}

#endif
