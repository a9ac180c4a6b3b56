#include "bootinfo.h"

#include "platform.h"

/* struct hvm_start_info of the PVH boot protocol. */
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

/* Pointers from outside are followed only where the page tables reach. */
static const void *mapped(uint64_t address)
{
    return address < MAPPED_END ? (const void *)address : NULL;
}

const char *command_line(const struct start_info *info)
{
    const char *line = info->magic == START_INFO_MAGIC ? mapped(info->command_line) : NULL;
    return line ? line : "";
}

const struct memory_range *memory_map(const struct start_info *info, uint32_t *entries)
{
    *entries = 0;
    if (info->magic != START_INFO_MAGIC || info->version < 1)
        return NULL;
    const struct memory_range *map = mapped(info->memory_map);
    if (map)
        *entries = info->memory_map_entries;
    return map;
}
