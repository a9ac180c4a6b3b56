/* Single instructions, and accesses of an exact width. */
#ifndef CPU_H
#define CPU_H

#include <stdint.h>

/* One load or store by one register, and nothing else: hypervisors decode it everywhere, and its width is
 * the device's business. */
#define MMIO_ACCESS(bits, letter, form)                                                            \
    static inline uint##bits##_t read##bits(uintptr_t address)                                     \
    {                                                                                              \
        uint##bits##_t value;                                                                      \
        __asm__ volatile("ldr" letter " %" form "0, [%1]" : "=r"(value) : "r"(address) : "memory"); \
        return value;                                                                              \
    }                                                                                              \
    static inline void write##bits(uintptr_t address, uint##bits##_t value)                        \
    {                                                                                              \
        __asm__ volatile("str" letter " %" form "0, [%1]" : : "r"(value), "r"(address) : "memory"); \
    }
MMIO_ACCESS(8, "b", "w")
MMIO_ACCESS(16, "h", "w")
MMIO_ACCESS(32, "", "w")
MMIO_ACCESS(64, "", "x")
#undef MMIO_ACCESS

/* Reads where nothing may be, which is no fault here: a hole reads as all ones, or as zero. */
static inline uint32_t probe32(uintptr_t address)
{
    return read32(address);
}

#define SYSTEM_READ(name)                                                                          \
    ({                                                                                             \
        uint64_t value_;                                                                           \
        __asm__ volatile("mrs %0, " #name : "=r"(value_) : : "memory");                            \
        value_;                                                                                    \
    })
#define SYSTEM_WRITE(name, value)                                                                  \
    __asm__ volatile("msr " #name ", %0; isb" : : "r"((uint64_t)(value)) : "memory")

static inline void interrupts_on(void)
{
    __asm__ volatile("msr daifclr, #2" : : : "memory");
}

static inline void interrupts_off(void)
{
    __asm__ volatile("msr daifset, #2" : : : "memory");
}

/* Called with interrupts off. A masked interrupt ends wfi too, so a wake-up cannot slip between the
 * caller's test and the sleep. */
static inline void sleep_until_interrupt(void)
{
    __asm__ volatile("dsb sy; wfi; msr daifclr, #2; isb; msr daifset, #2" : : : "memory");
}

/* Bytes, in assembly: a loop would become a call of memcpy. */
static inline void cpu_copy(void *to, const void *from, uint64_t length)
{
    uint32_t byte;
    __asm__ volatile("cbz %2, 2f\n"
                     "1: ldrb %w3, [%1], #1\n"
                     "strb %w3, [%0], #1\n"
                     "subs %2, %2, #1\n"
                     "b.ne 1b\n"
                     "2:"
                     : "+r"(to), "+r"(from), "+r"(length), "=&r"(byte)
                     :
                     : "cc", "memory");
}

static inline void cpu_fill(void *to, int byte, uint64_t length)
{
    __asm__ volatile("cbz %1, 2f\n"
                     "1: strb %w2, [%0], #1\n"
                     "subs %1, %1, #1\n"
                     "b.ne 1b\n"
                     "2:"
                     : "+r"(to), "+r"(length)
                     : "r"(byte)
                     : "cc", "memory");
}

/* Does nothing so many times; the compiler cannot know. */
static inline void cpu_spin(uint32_t turns)
{
    __asm__ volatile("1: subs %w0, %w0, #1; b.ne 1b" : "+r"(turns) : : "cc");
}

static inline void cpu_relax(void)
{
    __asm__ volatile("yield" : : : "memory");
}

_Noreturn static inline void stop(void)
{
    interrupts_off();
    for (;;)
        __asm__ volatile("wfi" : : : "memory");
}

#endif
