/* The console device, virtio 1.2 §5.3: port 0, whose queues 0 and 1 receive and send. */
#include "command.h"
#include "serial.h"
#include "virtio.h"

#define RECEIVE 0
#define SEND 1
#define BUFFERS 4
#define BUFFER_BYTES 256

#define F_SIZE 1
#define COLUMNS 0 /* configuration, §5.3.4 */
#define ROWS 2

static uint8_t received[DEVICES_MAX][BUFFERS][BUFFER_BYTES];
static struct {
    uint16_t columns, rows;
} sizes[DEVICES_MAX];

static bool configure(struct virtio *device)
{
    if (!(device->features & F_SIZE))
        return false;
    uint16_t columns = virtio_config16(device, COLUMNS), rows = virtio_config16(device, ROWS);
    unsigned index = virtio_index(device);
    bool changed = columns != sizes[index].columns || rows != sizes[index].rows;
    sizes[index].columns = columns;
    sizes[index].rows = rows;
    return changed;
}

static void describe(const struct virtio *device)
{
    unsigned index = virtio_index(device);
    if (device->features & F_SIZE)
        print("%u columns, %u rows", sizes[index].columns, sizes[index].rows);
    else
        print("no size");
}

static void offer(struct virtio *device, unsigned id)
{
    virtio_give(device, RECEIVE, id, received[virtio_index(device)][id], BUFFER_BYTES, true);
}

static bool start(struct virtio *device)
{
    for (unsigned id = 0; id < BUFFERS; id++)
        offer(device, id);
    virtio_notify(device, RECEIVE);
    return true;
}

VIRTIO_DRIVER(con, .kind = VIRTIO_CONSOLE, .queues = 2, .features = F_SIZE,
              .configure = configure, .describe = describe, .start = start);

static void send(struct virtio *device, const char *text)
{
    uint32_t length = text_length(text), none;
    memcpy(transfer, text, length);
    transfer[length++] = '\n';
    struct virtio_part part = {transfer, length, false};
    if (virtio_request(device, SEND, &part, 1, &none)) {
        virtio_say(device);
        print("%u bytes sent\n", length);
    }
}

/* Received bytes wait in the device's buffers; while all are full, the device has to wait. No more
 * than they hold at once, or a device that sends without end would keep the prompt away. */
static void show(struct virtio *device)
{
    unsigned id, taken = 0;
    uint32_t length;
    uint8_t last = 0;
    for (; taken < BUFFERS && virtio_take(device, RECEIVE, &id, &length); taken++) {
        const uint8_t *bytes = received[virtio_index(device)][id % BUFFERS];
        for (uint32_t n = 0; n < length && n < BUFFER_BYTES; n++) {
            last = bytes[n];
            serial_put((last >= ' ' && last <= '~') || last == '\n' ? last : '.');
        }
        offer(device, id % BUFFERS);
    }
    if (taken)
        virtio_notify(device, RECEIVE);
    if (!taken) {
        virtio_say(device);
        print("nothing to read\n");
    } else if (last != '\n') {
        print("\n");
    }
}

COMMAND(con, "[UNIT] send TEXT|read ...", "the virtio console; alone: its size")
{
    unsigned unit = unit_argument(&argc, &argv);
    struct virtio *device = virtio_find(&con_driver, unit);
    if (!device)
        return;
    if (argc == 1) {
        virtio_say(device);
        describe(device);
        print("\n");
    } else if (text_equal(argv[1], "send")) {
        send(device, rest(argc, argv, 2));
    } else if (text_equal(argv[1], "read")) {
        show(device);
    } else {
        print("con [UNIT] send TEXT | read\n");
    }
}
