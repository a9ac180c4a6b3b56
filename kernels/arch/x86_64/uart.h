/* COM1, a 16550A. */
#ifndef UART_H
#define UART_H

#include "io.h"
#include "platform.h"

#define RBR (COM1_PORT + 0)
#define THR (COM1_PORT + 0)
#define IER (COM1_PORT + 1)
#define FCR (COM1_PORT + 2)
#define LCR (COM1_PORT + 3)
#define MCR (COM1_PORT + 4)
#define LSR (COM1_PORT + 5)

#define IER_RECEIVED 0x01
#define FCR_ENABLE 0x01
#define LCR_8N1 0x03
#define MCR_DTR_RTS_OUT2 0x0b
#define LSR_DATA_READY 0x01
#define LSR_THRE 0x20

static inline void uart_send(char c)
{
    while (!(in8(LSR) & LSR_THRE))
        ;
    out8(THR, c);
}

static inline bool uart_received(void)
{
    return in8(LSR) & LSR_DATA_READY;
}

static inline uint8_t uart_take(void)
{
    return in8(RBR);
}

/* Input, but for its interrupt. */
static inline void uart_prepare(void)
{
    out8(FCR, FCR_ENABLE);
    out8(LCR, LCR_8N1);
    out8(MCR, MCR_DTR_RTS_OUT2);
}

static inline void uart_listen(void)
{
    out8(IER, IER_RECEIVED);
}

#endif
