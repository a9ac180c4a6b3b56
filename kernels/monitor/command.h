/* The monitor's commands. A new file of commands is one more name in the Makefile:
 *
 *     COMMAND(beep, "[COUNT]", "ring the terminal's bell")
 *     {
 *         uint64_t count;
 *         if (optional(argc, argv, 1, "count", 1, &count))
 *             ...
 *     }
 */
#ifndef COMMAND_H
#define COMMAND_H

#include "bootinfo.h"
#include "io.h"
#include "text.h"

struct command {
    const char *name;
    const char *arguments;
    const char *summary;
    void (*run)(int argc, char **argv); /* argv[0] is the name */
};

/* `arguments` that end in "..." tell that the last word is the rest of the line, spaces included. */

/* The linker gathers the pointers in a table, by name. */
#define COMMAND(id, arguments, summary)                                                            \
    static void id##_command(int, char **);                                                        \
    static const struct command id##_entry = {#id, arguments, summary, id##_command};              \
    __attribute__((used, section(".commands." #id)))                                               \
    static const struct command *const id##_pointer = &id##_entry;                                 \
    static void id##_command(__attribute__((unused)) int argc, __attribute__((unused)) char **argv)

/* No command reads or writes more at once, so that a typo does not take the console away. */
#define TRANSFER_MAX 0x10000

extern const struct start_info *start_info;

/* Number number `index` of a command. Both say what is wrong and return false; `optional` takes a
 * missing one as `otherwise`. */
bool required(int argc, char **argv, int index, const char *what, uint64_t *value);
bool optional(int argc, char **argv, int index, const char *what, uint64_t otherwise,
              uint64_t *value);
/* An access width up to `widest` bytes, in the same way. */
bool width(int argc, char **argv, int index, unsigned otherwise, unsigned widest, unsigned *bytes);
/* Whether a value can be written in that many bytes; says so if not. */
bool fits(char **argv, uint64_t value, unsigned bytes);

/* The words from `index` on as they were typed, in one piece: "" when there are none. */
char *rest(int argc, char **argv, int index);
/* For commands with several devices: takes a number in argv[1] away and returns it, else 0. */
unsigned unit_argument(int *argc, char ***argv);
/* Bytes in hex and as text. */
void hex_dump(uint64_t address, uint64_t length);

#endif
