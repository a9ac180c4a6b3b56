/* Port I/O. */
#include "command.h"

static bool port_number(int argc, char **argv, uint64_t *port)
{
    return required(argc, argv, 1, "port", port) && fits(argv, *port, 2);
}

COMMAND(in, "PORT [1|2|4]", "read an I/O port, 1 byte wide")
{
    uint64_t port;
    unsigned bytes;
    if (!port_number(argc, argv, &port) || !width(argc, argv, 2, 1, 4, &bytes))
        return;
    if (bytes == 1)
        print("0x%04lx: 0x%02x\n", port, in8(port));
    else if (bytes == 2)
        print("0x%04lx: 0x%04x\n", port, in16(port));
    else
        print("0x%04lx: 0x%08x\n", port, in32(port));
}

COMMAND(out, "PORT VALUE [1|2|4]", "write an I/O port, 1 byte wide")
{
    uint64_t port, value;
    unsigned bytes;
    if (!port_number(argc, argv, &port) || !required(argc, argv, 2, "value", &value) ||
        !width(argc, argv, 3, 1, 4, &bytes) || !fits(argv, value, bytes))
        return;
    if (bytes == 1)
        out8(port, value);
    else if (bytes == 2)
        out16(port, value);
    else
        out32(port, value);
}
