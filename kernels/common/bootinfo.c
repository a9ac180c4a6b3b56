#include "bootinfo.h"

#include "platform.h"
#include "text.h"

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

uint64_t option(const struct start_info *info, const char *name, uint64_t otherwise)
{
    const char *at = command_line(info);
    while (*at) {
        const char *key = name;
        while (*key && *at == *key)
            at++, key++;
        uint64_t value;
        if (!*key && *at == '=' && parse_number(at + 1, &value))
            return value;
        while (*at && *at != ' ')
            at++;
        while (*at == ' ')
            at++;
    }
    return otherwise;
}
