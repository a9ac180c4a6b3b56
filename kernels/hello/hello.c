/* The smallest guest with something to say. */
#include "bootinfo.h"
#include "machine.h"
#include "text.h"

void main(const struct start_info *info)
{
    print("Hello from the guest!\n");
    const char *line = command_line(info);
    if (*line)
        print("cmdline: %s\n", line);
    machine_exit(option(info, "exit", 0));
}
