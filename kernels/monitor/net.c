/* Network cards, virtio 1.2 §5.1. */
#include "command.h"
#include "net.h"

#define RECEIVE 0
#define SEND 1
#define RECEIVE_BUFFERS 8
#define SEND_BUFFERS 4
#define BUFFER_BYTES 2048
#define CARDS_MAX 16 /* their buffers are most of what this kernel takes */
#define SERVED_MAX 16 /* frames in a row before the keyboard has its turn */

#define F_MAC (1u << 5)
#define F_STATUS (1u << 16)
#define MAC 0 /* configuration, §5.1.4 */
#define STATUS 6
#define S_LINK_UP 1

#define HEADER 12 /* virtio_net_hdr: all zero, for nothing is left to the device */
#define PINGS_MAX 1000

static struct net nets[CARDS_MAX];
static uint8_t receive_buffers[CARDS_MAX][RECEIVE_BUFFERS][BUFFER_BYTES];
static uint8_t send_buffers[CARDS_MAX][SEND_BUFFERS][BUFFER_BYTES];

struct net *net_of(const struct virtio *device)
{
    return &nets[device->unit];
}

static bool configure(struct virtio *device)
{
    struct net *net = net_of(device);
    if (device->features & F_MAC)
        for (unsigned n = 0; n < sizeof(net->mac); n++)
            net->mac[n] = virtio_config8(device, MAC + n);
    else
        put32(net->mac, 0x02000000), put16(net->mac + 4, device->unit);
    bool up = !(device->features & F_STATUS) || virtio_config16(device, STATUS) & S_LINK_UP;
    bool changed = up != net->link_up;
    net->link_up = up;
    return changed;
}

static void describe(const struct virtio *device)
{
    print("link %s", net_of(device)->link_up ? "up" : "down");
}

static void offer(struct virtio *device, unsigned id)
{
    virtio_give(device, RECEIVE, id, receive_buffers[device->unit][id], BUFFER_BYTES, true);
}

static bool start(struct virtio *device)
{
    struct net *net = net_of(device);
    if (device->fresh) {
        net->ip = net->received = net->sent = 0;
        for (unsigned n = 0; n < NEIGHBOURS; n++)
            net->neighbours[n].ip = 0;
    }
    net->free = (1 << SEND_BUFFERS) - 1;
    virtio_quiet(device, SEND);
    unsigned buffers = device->queues[RECEIVE].size;
    for (unsigned id = 0; id < buffers && id < RECEIVE_BUFFERS; id++)
        offer(device, id);
    virtio_notify(device, RECEIVE);
    return true;
}

uint8_t *frame_begin(struct virtio *device, unsigned *id)
{
    struct net *net = net_of(device);
    uint32_t length;
    while (virtio_take(device, SEND, id, &length))
        net->free |= 1 << *id % SEND_BUFFERS;
    if (!net->free)
        return NULL;
    *id = __builtin_ctz(net->free);
    return send_buffers[device->unit][*id] + HEADER;
}

void frame_send(struct virtio *device, unsigned id, unsigned length)
{
    struct net *net = net_of(device);
    net->free &= ~(1 << id);
    net->sent++;
    virtio_give(device, SEND, id, send_buffers[device->unit][id], HEADER + length, false);
    virtio_notify(device, SEND);
}

static void service(struct virtio *device)
{
    unsigned id, served = 0;
    uint32_t length;
    while (served < SERVED_MAX && virtio_take(device, RECEIVE, &id, &length)) {
        id %= RECEIVE_BUFFERS;
        const uint8_t *frame = receive_buffers[device->unit][id] + HEADER;
        served++;
        net_of(device)->received++;
        if (length >= HEADER + FRAME_MIN && length <= HEADER + FRAME_MAX)
            frame_received(device, frame, length - HEADER);
        offer(device, id);
    }
    if (served)
        virtio_notify(device, RECEIVE);
    if (served == SERVED_MAX)
        virtio_again(device);
}

VIRTIO_DRIVER(net, .kind = VIRTIO_NET, .queues = 2, .units = CARDS_MAX,
              .features = F_MAC | F_STATUS, .configure = configure, .describe = describe,
              .start = start, .service = service);

static bool required_ip(int argc, char **argv, int index, uint32_t *ip)
{
    const char *at = index < argc ? argv[index] : "";
    *ip = 0;
    for (unsigned n = 0; n < 4; n++) {
        uint64_t part;
        if (!parse_digits(&at, &part) || part > 255 || *at != (n < 3 ? '.' : 0)) {
            print("net: an address is A.B.C.D\n");
            return false;
        }
        *ip = *ip << 8 | part;
        at++;
    }
    return true;
}

static void list(const struct virtio *device)
{
    const struct net *net = net_of(device);
    virtio_say(device);
    print("mac ");
    for (unsigned n = 0; n < 6; n++)
        print("%02x%s", net->mac[n], n < 5 ? ":" : ", ");
    describe(device);
    print(", ");
    if (net->ip)
        print_ip(net->ip);
    else
        print("no ip");
    print(", %u received, %u sent\n", net->received, net->sent);
}

static void send_hex(struct virtio *device, const char *text)
{
    unsigned id, digits = 0;
    uint8_t *frame = frame_begin(device, &id);
    for (; frame && *text; text++) {
        unsigned digit = digit_value(*text);
        if (*text == ' ' || *text == ':')
            continue;
        if (digit == 16)
            break;
        uint8_t *at = frame + digits++ / 2; /* a line is shorter than a frame */
        *at = *at << 4 | digit;
    }
    if (!frame)
        print("net: no buffer is free\n");
    else if (*text || digits % 2 || digits / 2 < FRAME_MIN)
        print("net: a frame is %u bytes or more, in hex\n", FRAME_MIN);
    else
        frame_send(device, id, digits / 2);
}

COMMAND(net, "[UNIT] [ip|ping A.B.C.D] ...", "network cards; net help tells more")
{
    unsigned unit = unit_argument(&argc, &argv);
    struct virtio *device = virtio_find(&net_driver, unit);
    const char *verb = argc > 1 ? argv[1] : "";
    uint32_t ip;
    uint64_t count;
    if (!device)
        return;
    if (!*verb) {
        for (device = virtio_devices; device < virtio_devices + DEVICES_MAX; device++)
            if (device->driver == &net_driver)
                list(device);
    } else if (text_equal(verb, "ip")) {
        if (required_ip(argc, argv, 2, &ip))
            net_of(device)->ip = ip;
    } else if (text_equal(verb, "ping")) {
        if (!required_ip(argc, argv, 2, &ip) || !optional(argc, argv, 3, "count", 1, &count))
            return;
        if (!net_of(device)->ip)
            print("net: net ip A.B.C.D comes first\n");
        else if (!count || count > PINGS_MAX)
            print("net: 1 to %u pings\n", PINGS_MAX);
        else
            ping(device, ip, count);
    } else if (text_equal(verb, "send")) {
        send_hex(device, rest(argc, argv, 2));
    } else {
        print("net [UNIT] ip A.B.C.D | ping A.B.C.D [COUNT] | send HEX\n");
    }
}
