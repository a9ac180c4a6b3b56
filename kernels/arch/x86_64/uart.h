/* COM1, a 16550A. */
#ifndef UART_H
#define UART_H

#include "io.h"
#include "platform.h"

static inline uint8_t uart_read(unsigned index)
{
    return in8(COM1_PORT + index);
}

static inline void uart_write(unsigned index, uint8_t value)
{
    out8(COM1_PORT + index, value);
}

#include "uart16550.h"

#endif
