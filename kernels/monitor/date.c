#include "date.h"

#include "text.h"

/* By the calendar's 400 years (146,097 days) that begin in March. */
void print_date(uint64_t seconds)
{
    uint64_t days = seconds / 86400 + 719468, era = days / 146097;
    uint32_t day = days % 146097;
    uint32_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    uint32_t month = (5 * day + 2) / 153;
    print("%lu-%02u-%02u", era * 400 + year + (month >= 10), month < 10 ? month + 3 : month - 9,
          day - (153 * month + 2) / 5 + 1);
    uint32_t now = seconds % 86400;
    print(" %02u:%02u:%02u\n", now / 3600, now / 60 % 60, now % 60);
}
