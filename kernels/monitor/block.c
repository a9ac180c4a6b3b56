/* Disks, virtio 1.2 §5.2. */
#include "command.h"
#include "serial.h"
#include "virtio.h"

#define SECTOR 512
#define SHOWN 64 /* bytes of what was read */
#define ID_BYTES 20

/* Features, §5.2.3 */
#define F_RO (1u << 5)
#define F_FLUSH (1u << 9)
#define F_DISCARD (1u << 13)
#define F_WRITE_ZEROES (1u << 14)

/* Configuration, §5.2.4 */
#define CAPACITY 0
#define MAX_DISCARD_SECTORS 36
#define MAX_WRITE_ZEROES_SECTORS 48

/* Requests, §5.2.6 */
#define T_IN 0
#define T_OUT 1
#define T_FLUSH 4
#define T_GET_ID 8
#define T_DISCARD 11
#define T_WRITE_ZEROES 13
#define S_OK 0
#define S_UNSUPP 2

static uint64_t capacities[DEVICES_MAX];

static uint64_t capacity(const struct virtio *device)
{
    return capacities[virtio_index(device)];
}

static bool configure(struct virtio *device)
{
    uint64_t sectors = virtio_config32(device, CAPACITY);
    sectors |= (uint64_t)virtio_config32(device, CAPACITY + 4) << 32;
    bool changed = sectors != capacity(device);
    capacities[virtio_index(device)] = sectors;
    return changed;
}

static void describe(const struct virtio *device)
{
    print("%lu sectors", capacity(device));
}

VIRTIO_DRIVER(blk, .kind = VIRTIO_BLOCK, .queues = 1,
              .features = F_RO | F_FLUSH | F_DISCARD | F_WRITE_ZEROES, .configure = configure,
              .describe = describe);

static void say(const struct virtio *device, const char *what)
{
    virtio_say(device);
    print("%s\n", what);
}

/* One request with its header, `length` bytes of data if any, and its status. */
static bool request(struct virtio *device, uint32_t type, uint64_t sector, void *data,
                    uint32_t length, bool filled)
{
    static struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    static uint8_t status;
    header.type = type;
    header.sector = sector;
    status = 0xff;
    struct virtio_part parts[PARTS_MAX] = {{&header, sizeof(header), false}};
    unsigned count = 1;
    if (length)
        parts[count++] = (struct virtio_part){data, length, filled};
    parts[count++] = (struct virtio_part){&status, 1, true};
    uint32_t written;
    if (!virtio_request(device, 0, parts, count, &written))
        return false;
    uint8_t answer = *(volatile uint8_t *)&status;
    if (answer != S_OK)
        say(device, answer == S_UNSUPP ? "not supported" : "i/o error");
    return answer == S_OK;
}

static bool inside(struct virtio *device, uint64_t sector, uint64_t count)
{
    if (count <= capacity(device) && sector <= capacity(device) - count)
        return true;
    virtio_say(device);
    print("beyond the end, %lu sectors\n", capacity(device));
    return false;
}

static bool writable(struct virtio *device)
{
    if (device->features & F_RO)
        say(device, "read-only");
    return !(device->features & F_RO);
}

static bool offers(struct virtio *device, uint32_t feature)
{
    if (!(device->features & feature))
        say(device, "the device does not offer that");
    return device->features & feature;
}

static void print_id(struct virtio *device)
{
    memset(transfer, 0, ID_BYTES + 1);
    if (!request(device, T_GET_ID, 0, transfer, ID_BYTES, true))
        return;
    virtio_say(device);
    print("'");
    for (const uint8_t *at = transfer; *at; at++)
        serial_put(*at >= ' ' && *at <= '~' ? *at : '.');
    print("'\n");
}

static void list(void)
{
    bool any = false;
    for (struct virtio *device = virtio_devices; device < virtio_devices + DEVICES_MAX; device++) {
        if (device->driver != &blk_driver)
            continue;
        any = true;
        virtio_say(device);
        print("%lu sectors%s%s%s%s\n", capacity(device),
              device->features & F_RO ? ", read-only" : "",
              device->features & F_FLUSH ? ", flush" : "",
              device->features & F_DISCARD ? ", discard" : "",
              device->features & F_WRITE_ZEROES ? ", zero" : "");
    }
    if (!any)
        print("blk: no such device\n");
}

static void read_sectors(struct virtio *device, uint64_t sector, uint64_t count)
{
    if (!count || count > sizeof(transfer) / SECTOR) {
        print("blk: 1 to %u sectors\n", (unsigned)sizeof(transfer) / SECTOR);
        return;
    }
    uint32_t length = count * SECTOR;
    if (!inside(device, sector, count) || !request(device, T_IN, sector, transfer, length, true))
        return;
    hex_dump((uintptr_t)transfer, SHOWN);
    virtio_say(device);
    print("%u bytes at 0x%lx, sum 0x%016lx\n", length, (uintptr_t)transfer, transfer_sum(length));
}

/* §5.2.5: segments no longer than the device says. */
static void clear(struct virtio *device, uint32_t type, uint64_t sector, uint64_t count)
{
    bool discard = type == T_DISCARD;
    if (!offers(device, discard ? F_DISCARD : F_WRITE_ZEROES) || !writable(device) ||
        !inside(device, sector, count))
        return;
    uint32_t most =
        virtio_config32(device, discard ? MAX_DISCARD_SECTORS : MAX_WRITE_ZEROES_SECTORS);
    if (!count || count > most) {
        virtio_say(device);
        print("1 to %u sectors\n", most);
        return;
    }
    static struct {
        uint64_t sector;
        uint32_t count, flags;
    } range;
    range.sector = sector;
    range.count = count;
    range.flags = 0;
    if (request(device, type, 0, &range, sizeof(range), false))
        say(device, discard ? "discarded" : "zeroed");
}

static void write_text(struct virtio *device, uint64_t sector, const char *text)
{
    if (!writable(device) || !inside(device, sector, 1))
        return;
    memset(transfer, 0, SECTOR);
    memcpy(transfer, text, text_length(text)); /* a line is shorter than a sector */
    if (request(device, T_OUT, sector, transfer, SECTOR, false))
        say(device, "written");
}

COMMAND(blk, "[UNIT] [COMMAND] ...", "disks; blk help tells more")
{
    unsigned unit = unit_argument(&argc, &argv);
    const char *verb = argc > 1 ? argv[1] : "";
    if (!*verb) {
        list();
        return;
    }
    struct virtio *device = NULL;
    uint64_t sector = 0, count = 1;
    bool read = text_equal(verb, "read"), write = text_equal(verb, "write");
    bool discard = text_equal(verb, "discard"), zero = text_equal(verb, "zero");
    bool flush = text_equal(verb, "flush"), id = text_equal(verb, "id");
    if (!(read || write || discard || zero || flush || id)) {
        print("blk [UNIT] read SECTOR [COUNT] | write SECTOR TEXT | discard SECTOR COUNT\n"
              "           zero SECTOR COUNT | flush | id\n");
        return;
    }
    if (!(flush || id) && !required(argc, argv, 2, "sector", &sector))
        return;
    if (((discard || zero) && !required(argc, argv, 3, "count", &count)) ||
        (read && !optional(argc, argv, 3, "count", 1, &count)) ||
        !(device = virtio_find(&blk_driver, unit)))
        return;
    if (read)
        read_sectors(device, sector, count);
    else if (write)
        write_text(device, sector, rest(argc, argv, 3));
    else if (discard || zero)
        clear(device, discard ? T_DISCARD : T_WRITE_ZEROES, sector, count);
    else if (id)
        print_id(device);
    else if (offers(device, F_FLUSH) && request(device, T_FLUSH, 0, NULL, 0, false))
        say(device, "flushed");
}
