#include "serial.h"

#include "platform.h"

#define THR (COM1_PORT + 0)
#define LSR (COM1_PORT + 5)
#define LSR_THRE 0x20

bool serial_crlf;

void serial_put(char c)
{
    if (c == '\n' && serial_crlf)
        serial_put('\r');
    while (!(in8(LSR) & LSR_THRE))
        ;
    out8(THR, c);
}

void serial_write(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        serial_put(text[i]);
}
