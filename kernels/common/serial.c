#include "serial.h"

#include "platform.h"

#define THR (COM1_PORT + 0)
#define LSR (COM1_PORT + 5)
#define LSR_THRE 0x20

bool serial_crlf;

static inline void send(char c)
{
    while (!(in8(LSR) & LSR_THRE))
        ;
    out8(THR, c);
}

void serial_put(char c)
{
    if (c == '\n' && serial_crlf)
        send('\r');
    send(c);
}

void serial_write(const char *text, size_t length)
{
    for (const char *end = text + length; text != end; text++)
        serial_put(*text);
}
