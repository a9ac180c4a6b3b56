/* The device tree that the loader leaves (Devicetree Specification 0.4, chapter 5). Nothing in it is trusted:
 * whatever lies outside of it is not there. */
#include "bootinfo.h"

#include "platform.h"
#include "text.h"

#define MAGIC 0xd00dfeed
#define SIZE_MAX_TREE 0x200000
#define BEGIN_NODE 1
#define END_NODE 2
#define PROPERTY 3
#define NOP 4

#define RANGES_MAX 8
#define RAM 1

struct start_info {
    uint32_t magic, size, structure, strings, reserved, version, compatible, cpu;
    uint32_t strings_size, structure_size;
};

/* A property, in a node of the root's. */
struct property {
    const char *node, *name;
    const uint8_t *value;
    uint32_t length;
};

static uint32_t big(const void *at)
{
    const uint8_t *byte = at;
    return (uint32_t)byte[0] << 24 | byte[1] << 16 | byte[2] << 8 | byte[3];
}

static uint64_t big64(const uint8_t *at)
{
    return (uint64_t)big(at) << 32 | big(at + 4);
}

/* Text that ends before `end`, or "". */
static const char *text_at(const uint8_t *start, const uint8_t *end)
{
    for (const uint8_t *at = start; at < end; at++)
        if (!*at)
            return (const char *)start;
    return "";
}

/* Calls `see` with each property of the root's children, until it returns true. */
static void walk(const struct start_info *info, bool (*see)(const struct property *))
{
    if (!info || (uintptr_t)info & 7 || (uintptr_t)info >= MAPPED_END || big(&info->magic) != MAGIC)
        return;
    uint32_t size = big(&info->size), from = big(&info->structure), length = big(&info->structure_size);
    uint32_t names = big(&info->strings), names_size = big(&info->strings_size);
    if (size > SIZE_MAX_TREE || from > size || length > size - from || names > size ||
        names_size > size - names)
        return;
    const uint8_t *at = (const uint8_t *)info + from, *end = at + length;
    const uint8_t *strings = (const uint8_t *)info + names, *strings_end = strings + names_size;
    struct property found = {.node = ""};
    int depth = 0;
    while (end - at >= 4) {
        uint32_t token = big(at);
        at += 4;
        if (token == BEGIN_NODE) {
            const char *name = text_at(at, end);
            if (++depth == 2)
                found.node = name;
            at += (text_length(name) + 4) & ~3ul;
        } else if (token == END_NODE) {
            depth--;
        } else if (token == PROPERTY && end - at >= 8) {
            found.length = big(at);
            uint32_t name = big(at + 4);
            at += 8;
            if (found.length > end - at || name >= names_size)
                return;
            found.name = text_at(strings + name, strings_end);
            found.value = at;
            if (depth == 2 && see(&found))
                return;
            at += (found.length + 3) & ~3u;
        } else if (token != NOP) {
            return;
        }
    }
}

static const char *line;

static bool see_command_line(const struct property *property)
{
    if (!text_equal(property->node, "chosen") || !text_equal(property->name, "bootargs"))
        return false;
    line = text_at(property->value, property->value + property->length);
    return true;
}

const char *command_line(const struct start_info *info)
{
    line = "";
    walk(info, see_command_line);
    return line;
}

static struct memory_range ranges[RANGES_MAX];
static uint32_t count;

/* Two cells an address, two a size, as this machine's trees have them. */
static bool see_memory(const struct property *property)
{
    static const char memory[] = "memory";
    for (unsigned i = 0; i < sizeof(memory) - 1; i++)
        if (property->node[i] != memory[i])
            return false;
    if (!text_equal(property->name, "reg"))
        return false;
    for (uint32_t at = 0; at + 16 <= property->length && count < RANGES_MAX; at += 16)
        ranges[count++] = (struct memory_range){
            .start = big64(property->value + at),
            .size = big64(property->value + at + 8),
            .type = RAM,
        };
    return false;
}

const struct memory_range *memory_map(const struct start_info *info, uint32_t *entries)
{
    count = 0;
    walk(info, see_memory);
    *entries = count;
    return count ? ranges : NULL;
}
