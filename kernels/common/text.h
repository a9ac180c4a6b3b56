/* Strings, numbers and formatted output. */
#ifndef TEXT_H
#define TEXT_H

#include "io.h"

void *memcpy(void *to, const void *from, size_t length);
void *memset(void *to, int byte, size_t length);

size_t text_length(const char *text);
bool text_equal(const char *a, const char *b);

/* A decimal or 0x number that ends at a space or at the end of the text; false if it is none. */
bool parse_number(const char *text, uint64_t *value);

/* The same, ending anywhere: `text` is moved behind the last digit. */
bool parse_digits(const char **text, uint64_t *value);
/* What a hex digit stands for; 16 if it is none. */
unsigned digit_value(char c);

/* printf's %s %c %u %lu %x %lx %%, with a width, '-' and '0'. */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);

#endif
