#include "serial.h"

#include "uart.h"

bool serial_crlf;

void serial_put(char c)
{
    if (c == '\n' && serial_crlf)
        uart_send('\r');
    uart_send(c);
}

void serial_write(const char *text, size_t length)
{
    for (const char *end = text + length; text != end; text++)
        serial_put(*text);
}
