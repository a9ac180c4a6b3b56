/* Fills so many MiB of RAM before it says anything, in stores of a byte, as many kernels do, or of eight. */
#include "bootinfo.h"
#include "machine.h"
#include "text.h"

#define START (KERNEL_BASE + 0x200000)

void main(const struct start_info *info)
{
    uint64_t length = option(info, "mib", 128) << 20;
    if (option(info, "width", 1) == 1) {
        memset((void *)START, 5, length);
    } else {
        for (uintptr_t at = START; at < START + length; at += 8)
            write64(at, 0x0505050505050505);
    }
    uint64_t sum = 0;
    for (uintptr_t at = START; at < START + length; at += 4096)
        sum += read8(at);
    print("filled: %lu\n", sum);
    machine_exit(0);
}
