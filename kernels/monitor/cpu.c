/* What a CPU can do by itself: run and wait; and its siblings. */
#include "command.h"
#include "serial.h"
#include "shell.h"
#include "smp.h"

#define SPIN_CHUNK 50000

COMMAND(spin, "[MILLIONS]", "busy loop for so many turns or until a key")
{
    uint64_t millions;
    if (!optional(argc, argv, 1, "millions", 0, &millions))
        return;
    if (argc == 1) {
        print("spinning until a key\n");
        while (serial_get() < 0)
            cpu_spin(SPIN_CHUNK);
        return;
    }
    for (; millions; millions--) {
        for (unsigned i = 0; i < 1000000 / SPIN_CHUNK; i++) {
            if (serial_interrupted())
                return;
            cpu_spin(SPIN_CHUNK);
        }
    }
}

COMMAND(halt, "", "sleep until a key")
{
    print("halted until a key\n");
    wait_key();
}

COMMAND(smp, "[CPUS]", "start the other CPUs")
{
    uint64_t expected;
    if (!optional(argc, argv, 1, "cpus", option(start_info, "cpus", 0), &expected))
        return;
    if (expected > 1 + SMP_OTHERS_MAX) {
        print("smp: at most %u cpus\n", 1 + SMP_OTHERS_MAX);
        return;
    }
    smp_report(smp_start(expected), expected);
}
