/* Single instructions, and accesses of an exact width. */
#ifndef CPU_H
#define CPU_H

#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint16_t in16(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/* mov and nothing else: hypervisors decode it everywhere, and its width is the device's business. */
#define MMIO_ACCESS(bits)                                                                          \
    static inline uint##bits##_t read##bits(uintptr_t address)                                     \
    {                                                                                              \
        uint##bits##_t value;                                                                      \
        __asm__ volatile("mov %1, %0"                                                              \
                         : "=r"(value)                                                             \
                         : "m"(*(volatile uint##bits##_t *)address)                                \
                         : "memory");                                                              \
        return value;                                                                              \
    }                                                                                              \
    static inline void write##bits(uintptr_t address, uint##bits##_t value)                        \
    {                                                                                              \
        __asm__ volatile("mov %1, %0"                                                              \
                         : "=m"(*(volatile uint##bits##_t *)address)                               \
                         : "r"(value)                                                              \
                         : "memory");                                                              \
    }
MMIO_ACCESS(8)
MMIO_ACCESS(16)
MMIO_ACCESS(32)
MMIO_ACCESS(64)
#undef MMIO_ACCESS

/* Reads where nothing may be, which is no fault here: a hole reads as all ones, or as zero. */
static inline uint32_t probe32(uintptr_t address)
{
    return read32(address);
}

static inline void interrupts_on(void)
{
    __asm__ volatile("sti" : : : "memory");
}

static inline void interrupts_off(void)
{
    __asm__ volatile("cli" : : : "memory");
}

/* Called with interrupts off. sti takes effect after hlt has begun, so a wake-up cannot slip between
 * the caller's test and the sleep. */
static inline void sleep_until_interrupt(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

/* Bytes, in assembly: a loop would become a call of memcpy. */
static inline void cpu_copy(void *to, const void *from, uint64_t length)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
}

static inline void cpu_fill(void *to, int byte, uint64_t length)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(byte) : "memory");
}

/* Does nothing so many times; the compiler cannot know. */
static inline void cpu_spin(uint32_t turns)
{
    __asm__ volatile("1: dec %0; jnz 1b" : "+r"(turns));
}

static inline void cpu_relax(void)
{
    __asm__ volatile("pause" : : : "memory");
}

_Noreturn static inline void stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt" : : : "memory");
}

#endif
