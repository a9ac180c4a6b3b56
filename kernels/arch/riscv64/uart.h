/* The serial line, a 16550A whose registers are bytes in memory. */
#ifndef UART_H
#define UART_H

#include "io.h"
#include "platform.h"

static inline uint8_t uart_read(unsigned index)
{
    return read8(SERIAL_BASE + index);
}

static inline void uart_write(unsigned index, uint8_t value)
{
    write8(SERIAL_BASE + index, value);
}

#include "uart16550.h"

#endif
