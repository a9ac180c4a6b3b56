#include "bootinfo.h"

#include "text.h"

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
