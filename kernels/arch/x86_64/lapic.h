/* The local APIC of the CPU that asks. */
#ifndef LAPIC_H
#define LAPIC_H

#include "io.h"
#include "platform.h"

#define LAPIC_ID 0x20
#define LAPIC_EOI 0xb0
#define LAPIC_SVR 0xf0
#define LAPIC_ICR_LOW 0x300
#define LAPIC_LVT_LINT0 0x350

#define LAPIC_ENABLE 0x100
#define LAPIC_MASKED 0x10000

static inline uint32_t lapic_read(unsigned offset)
{
    return read32(LAPIC_BASE + offset);
}

static inline void lapic_write(unsigned offset, uint32_t value)
{
    write32(LAPIC_BASE + offset, value);
}

static inline unsigned lapic_id(void)
{
    return lapic_read(LAPIC_ID) >> 24;
}

#endif
