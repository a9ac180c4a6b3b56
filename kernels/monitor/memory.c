/* Memory and device registers, at any width. */
#include "command.h"
#include "serial.h"

static uint64_t load(uint64_t address, unsigned bytes)
{
    switch (bytes) {
    case 1:
        return read8(address);
    case 2:
        return read16(address);
    case 4:
        return read32(address);
    default:
        return read64(address);
    }
}

static void store(uint64_t address, uint64_t value, unsigned bytes)
{
    switch (bytes) {
    case 1:
        write8(address, value);
        break;
    case 2:
        write16(address, value);
        break;
    case 4:
        write32(address, value);
        break;
    default:
        write64(address, value);
    }
}

static bool short_enough(char **argv, uint64_t count, unsigned bytes)
{
    if (count <= TRANSFER_MAX / bytes)
        return true;
    print("%s: at most 0x%x bytes at once\n", argv[0], TRANSFER_MAX);
    return false;
}

static void print_value(uint64_t value, unsigned bytes)
{
    switch (bytes) {
    case 1:
        print(" 0x%02lx", value);
        break;
    case 2:
        print(" 0x%04lx", value);
        break;
    case 4:
        print(" 0x%08lx", value);
        break;
    default:
        print(" 0x%016lx", value);
    }
}

COMMAND(peek, "ADDR [1|2|4|8] [COUNT]", "read memory or registers, 4 bytes wide")
{
    uint64_t address, count;
    unsigned bytes;
    if (!required(argc, argv, 1, "address", &address) || !width(argc, argv, 2, 4, 8, &bytes) ||
        !optional(argc, argv, 3, "count", 1, &count) || !short_enough(argv, count, bytes))
        return;
    unsigned per_line = bytes == 1 ? 8 : 16 / bytes;
    for (uint64_t i = 0; i < count; i++, address += bytes) {
        /* Read first: a fault then has a line of its own. */
        uint64_t value = load(address, bytes);
        bool first = i % per_line == 0;
        if (first && serial_interrupted())
            return;
        if (first)
            print("0x%08lx:", address);
        print_value(value, bytes);
        if (i % per_line == per_line - 1 || i == count - 1)
            print("\n");
    }
}

COMMAND(poke, "ADDR VALUE [1|2|4|8]", "write memory or a register, 4 bytes wide")
{
    uint64_t address, value;
    unsigned bytes;
    if (required(argc, argv, 1, "address", &address) && required(argc, argv, 2, "value", &value) &&
        width(argc, argv, 3, 4, 8, &bytes) && fits(argv, value, bytes))
        store(address, value, bytes);
}

COMMAND(fill, "ADDR LENGTH BYTE", "write one byte over and over")
{
    uint64_t address, length, byte;
    if (!required(argc, argv, 1, "address", &address) ||
        !required(argc, argv, 2, "length", &length) || !short_enough(argv, length, 1) ||
        !required(argc, argv, 3, "byte", &byte) || !fits(argv, byte, 1))
        return;
    for (uint64_t i = 0; i < length; i++)
        write8(address + i, byte);
}

void hex_dump(uint64_t address, uint64_t length)
{
    while (length && !serial_interrupted()) {
        uint8_t bytes[16];
        unsigned count = length < sizeof(bytes) ? length : sizeof(bytes);
        for (unsigned i = 0; i < count; i++)
            bytes[i] = read8(address + i);
        print("0x%08lx:", address);
        for (unsigned i = 0; i < sizeof(bytes); i++) {
            if (i < count)
                print(" %02x", bytes[i]);
            else
                print("   ");
        }
        print("  ");
        for (unsigned i = 0; i < count; i++)
            serial_put(bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '.');
        print("\n");
        address += count;
        length -= count;
    }
}

COMMAND(dump, "ADDR [LENGTH]", "show bytes in hex and as text")
{
    uint64_t address, length;
    if (!required(argc, argv, 1, "address", &address) ||
        !optional(argc, argv, 2, "length", 64, &length) || !short_enough(argv, length, 1))
        return;
    hex_dump(address, length);
}
