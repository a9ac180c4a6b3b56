/* The calendar, for clocks that count seconds. */
#ifndef DATE_H
#define DATE_H

#include "io.h"

/* The date and time, so many seconds after 1970 began, and the end of the line. */
void print_date(uint64_t seconds);

#endif
