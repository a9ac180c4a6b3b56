/* What the loader says. */
#ifndef BOOTINFO_H
#define BOOTINFO_H

#include "io.h"

/* What it leaves; the machine's own. */
struct start_info;

struct memory_range {
    uint64_t start;
    uint64_t size;
    uint32_t type; /* 1: RAM; the others as in a PC's map */
    uint32_t reserved;
};

/* The command line; "" when there is none. */
const char *command_line(const struct start_info *info);
/* The memory map and its length; NULL when the loader gave none. */
const struct memory_range *memory_map(const struct start_info *info, uint32_t *entries);
/* The number in "name=NUMBER" on the command line, else the default. */
uint64_t option(const struct start_info *info, const char *name, uint64_t otherwise);

#endif
