/* Compilers call this one on their own: without Zbb no instruction counts zeroes. */
#include "io.h"

int __ctzdi2(uint64_t value);

int __ctzdi2(uint64_t value)
{
    int count = 0;
    while (!(value >> count & 1))
        count++;
    return count;
}
