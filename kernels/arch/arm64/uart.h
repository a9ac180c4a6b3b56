/* The serial line, a PL011. */
#ifndef UART_H
#define UART_H

#include "io.h"
#include "platform.h"

#define DR (SERIAL_BASE + 0x000)
#define FR (SERIAL_BASE + 0x018)
#define LCR_H (SERIAL_BASE + 0x02c)
#define CR (SERIAL_BASE + 0x030)
#define IMSC (SERIAL_BASE + 0x038)

#define FR_RXFE 0x10
#define FR_TXFF 0x20
#define LCR_H_8N1_FIFO 0x70
#define CR_ENABLE 0x301 /* the port, and both directions */
#define IMSC_RECEIVED 0x50 /* enough of it, or nothing more for a while */

static inline void uart_send(char c)
{
    while (read32(FR) & FR_TXFF)
        ;
    write32(DR, (uint8_t)c);
}

static inline bool uart_received(void)
{
    return !(read32(FR) & FR_RXFE);
}

static inline uint8_t uart_take(void)
{
    return read32(DR);
}

/* Input, but for its interrupt. */
static inline void uart_prepare(void)
{
    write32(LCR_H, LCR_H_8N1_FIFO);
    write32(CR, CR_ENABLE);
}

static inline void uart_listen(void)
{
    write32(IMSC, IMSC_RECEIVED);
}

#endif
