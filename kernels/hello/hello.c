/* The smallest guest with something to say. */
#include "bootinfo.h"
#include "machine.h"
#include "serial.h"
#include "text.h"

static const char greeting[] = "Hello from the guest!\n";

void main(const struct start_info *info)
{
    /* Not print(): its set-up would delay the first byte. */
    serial_write(greeting, sizeof(greeting) - 1);
    const char *line = command_line(info);
    if (*line)
        print("cmdline: %s\n", line);
    machine_exit(option(info, "exit", 0));
}
