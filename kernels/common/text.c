#include "text.h"

#include <stdarg.h>

#include "serial.h"

/* Compilers call these two on their own. */
void *memcpy(void *to, const void *from, size_t length)
{
    cpu_copy(to, from, length);
    return to;
}

void *memset(void *to, int byte, size_t length)
{
    cpu_fill(to, byte, length);
    return to;
}

size_t text_length(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

bool text_equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10u : 16;
}

bool parse_digits(const char **text, uint64_t *value)
{
    const char *at = *text;
    unsigned base = 10;
    if (at[0] == '0' && (at[1] | 0x20) == 'x') {
        base = 16;
        at += 2;
    }
    const char *first = at;
    uint64_t sum = 0;
    for (unsigned digit; (digit = digit_value(*at)) < base; at++) {
        if (sum > (UINT64_MAX - digit) / base)
            return false;
        sum = sum * base + digit;
    }
    *text = at;
    *value = sum;
    return at != first;
}

bool parse_number(const char *text, uint64_t *value)
{
    return parse_digits(&text, value) && (!*text || *text == ' ');
}

static void put_padded(const char *text, size_t length, size_t width, char pad)
{
    for (size_t i = length; pad && i < width; i++)
        serial_put(pad);
    serial_write(text, length);
    for (size_t i = length; !pad && i < width; i++)
        serial_put(' ');
}

static void put_number(uint64_t value, unsigned base, size_t width, char pad)
{
    char digits[20];
    char *at = digits + sizeof(digits);
    do {
        *--at = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    put_padded(at, digits + sizeof(digits) - at, width, pad);
}

void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            serial_put(*format);
            continue;
        }
        char pad = ' '; /* in front; 0 pads behind */
        if (*++format == '-' || *format == '0')
            pad = *format++ == '0' ? '0' : 0;
        size_t width = 0;
        while (*format >= '0' && *format <= '9')
            width = width * 10 + (*format++ - '0');
        bool is_long = *format == 'l';
        format += is_long;
        switch (*format) {
        case 's': {
            const char *text = va_arg(arguments, const char *);
            put_padded(text, text_length(text), width, pad);
            break;
        }
        case 'c':
            serial_put(va_arg(arguments, int));
            break;
        case 'u':
        case 'x': {
            uint64_t value = is_long ? va_arg(arguments, uint64_t) : va_arg(arguments, unsigned);
            put_number(value, *format == 'u' ? 10 : 16, width, pad);
            break;
        }
        default:
            serial_put(*format);
        }
    }
    va_end(arguments);
}
