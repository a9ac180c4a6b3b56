/* What the loader says: struct hvm_start_info of the PVH boot protocol. */
#ifndef BOOTINFO_H
#define BOOTINFO_H

#include "io.h"

#define START_INFO_MAGIC 0x336ec578

struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t command_line;
    uint64_t rsdp;
    uint64_t memory_map; /* from here on: version 1 */
    uint32_t memory_map_entries;
    uint32_t reserved;
};

struct memory_range {
    uint64_t start;
    uint64_t size;
    uint32_t type;
    uint32_t reserved;
};

/* The command line; "" when there is none. */
const char *command_line(const struct start_info *info);
/* The memory map and its length; NULL when the loader gave none. */
const struct memory_range *memory_map(const struct start_info *info, uint32_t *entries);
/* The number in "name=NUMBER" on the command line, else the default. */
uint64_t option(const struct start_info *info, const char *name, uint64_t otherwise);

#endif
