/* A 16550A, by the machine's uart_read() and uart_write() of a register. */
#ifndef UART16550_H
#define UART16550_H

#define RBR 0
#define THR 0
#define IER 1
#define FCR 2
#define LCR 3
#define MCR 4
#define LSR 5

#define IER_RECEIVED 0x01
#define FCR_ENABLE 0x01
#define LCR_8N1 0x03
#define MCR_DTR_RTS_OUT2 0x0b
#define LSR_DATA_READY 0x01
#define LSR_THRE 0x20

static inline void uart_send(char c)
{
    while (!(uart_read(LSR) & LSR_THRE))
        ;
    uart_write(THR, c);
}

static inline bool uart_received(void)
{
    return uart_read(LSR) & LSR_DATA_READY;
}

static inline uint8_t uart_take(void)
{
    return uart_read(RBR);
}

/* Input, but for its interrupt. */
static inline void uart_prepare(void)
{
    uart_write(FCR, FCR_ENABLE);
    uart_write(LCR, LCR_8N1);
    uart_write(MCR, MCR_DTR_RTS_OUT2);
}

static inline void uart_listen(void)
{
    uart_write(IER, IER_RECEIVED);
}

#endif
