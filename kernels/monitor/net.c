/* Network cards, virtio 1.2 §5.1, and just enough of ARP, IPv4 and ICMP to ask and to answer. */
#include "command.h"
#include "serial.h"
#include "timer.h"
#include "virtio.h"

#define RECEIVE 0
#define SEND 1
#define RECEIVE_BUFFERS 8
#define SEND_BUFFERS 4
#define BUFFER_BYTES 2048
#define SERVED_MAX 16 /* frames in a row before the keyboard has its turn */

#define F_MAC (1u << 5)
#define F_STATUS (1u << 16)
#define MAC 0 /* configuration, §5.1.4 */
#define STATUS 6
#define S_LINK_UP 1

#define HEADER 12 /* virtio_net_hdr: all zero, for nothing is left to the device */
#define FRAME_MIN 14
#define FRAME_MAX 1514

#define ETHER_TYPE 12
#define TYPE_IPV4 0x0800
#define TYPE_ARP 0x0806

/* Offsets in a frame. */
#define ARP 14
#define ARP_OPERATION (ARP + 6)
#define ARP_SENDER_MAC (ARP + 8)
#define ARP_SENDER_IP (ARP + 14)
#define ARP_TARGET_IP (ARP + 24)
#define ARP_END (ARP + 28)
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define IP 14
#define IP_LENGTH (IP + 2)
#define IP_FRAGMENT (IP + 6)
#define IP_PROTOCOL (IP + 9)
#define IP_CHECKSUM (IP + 10)
#define IP_SOURCE (IP + 12)
#define IP_TARGET (IP + 16)
#define ICMP (IP + 20)
#define ICMP_CHECKSUM (ICMP + 2)
#define ICMP_ID (ICMP + 4)
#define ICMP_SEQUENCE (ICMP + 6)
#define ICMP_DATA (ICMP + 8)
#define PROTOCOL_ICMP 1
#define ECHO_REQUEST 8
#define ECHO_REPLY 0

#define PING_ID 0x766c
#define PING_BYTES 32
#define PING_LIMIT 1000000 /* microseconds for an answer */
#define PINGS_MAX 1000
#define NEIGHBOURS 4

struct net {
    uint8_t mac[6];
    bool link_up;
    uint32_t ip; /* 0: none yet */
    uint32_t received, sent;
    uint8_t free; /* bit n: send buffer n */
    struct {
        uint32_t ip;
        uint8_t mac[6];
    } neighbours[NEIGHBOURS];
    unsigned next_neighbour;
    /* What a ping waits for: an ARP answer of `asked`, then an echo of `sequence`. */
    uint32_t asked;
    uint16_t sequence;
    bool answered;
};

static struct net nets[DEVICES_MAX];
static uint8_t receive_buffers[DEVICES_MAX][RECEIVE_BUFFERS][BUFFER_BYTES];
static uint8_t send_buffers[DEVICES_MAX][SEND_BUFFERS][BUFFER_BYTES];

static struct net *net_of(const struct virtio *device)
{
    return &nets[virtio_index(device)];
}

static uint16_t get16(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = value >> 8;
    at[1] = value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static uint16_t checksum(const uint8_t *at, unsigned length)
{
    uint32_t sum = 0;
    for (unsigned n = 0; n + 1 < length; n += 2)
        sum += get16(at + n);
    if (length & 1)
        sum += at[length - 1] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static void print_ip(uint32_t ip)
{
    print("%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
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
    virtio_give(device, RECEIVE, id, receive_buffers[virtio_index(device)][id], BUFFER_BYTES, true);
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

/* A frame to fill, or NULL while all are under way: then it is dropped, as a wire would. */
static uint8_t *frame_begin(struct virtio *device, unsigned *id)
{
    struct net *net = net_of(device);
    uint32_t length;
    while (virtio_take(device, SEND, id, &length))
        net->free |= 1 << *id % SEND_BUFFERS;
    if (!net->free)
        return NULL;
    *id = __builtin_ctz(net->free);
    return send_buffers[virtio_index(device)][*id] + HEADER;
}

static void frame_send(struct virtio *device, unsigned id, unsigned length)
{
    struct net *net = net_of(device);
    net->free &= ~(1 << id);
    net->sent++;
    virtio_give(device, SEND, id, send_buffers[virtio_index(device)][id], HEADER + length, false);
    virtio_notify(device, SEND);
}

static void ethernet(const struct net *net, uint8_t *frame, const uint8_t *to, uint16_t type)
{
    memcpy(frame, to, 6);
    memcpy(frame + 6, net->mac, 6);
    put16(frame + ETHER_TYPE, type);
}

static void arp_send(struct virtio *device, unsigned operation, const uint8_t *to, uint32_t ip)
{
    static const uint8_t everyone[6] = {255, 255, 255, 255, 255, 255};
    struct net *net = net_of(device);
    unsigned id;
    uint8_t *frame = frame_begin(device, &id);
    if (!frame)
        return;
    ethernet(net, frame, to ? to : everyone, TYPE_ARP);
    put32(frame + ARP, 1 << 16 | TYPE_IPV4); /* of Ethernet, for IPv4 */
    put32(frame + ARP + 4, 0x06040000 | operation);
    memcpy(frame + ARP_SENDER_MAC, net->mac, 6);
    put32(frame + ARP_SENDER_IP, net->ip);
    memset(frame + ARP_TARGET_IP - 6, 0, 6);
    if (to)
        memcpy(frame + ARP_TARGET_IP - 6, to, 6);
    put32(frame + ARP_TARGET_IP, ip);
    frame_send(device, id, ARP_END);
}

static uint8_t *neighbour(struct net *net, uint32_t ip)
{
    for (unsigned n = 0; n < NEIGHBOURS; n++)
        if (net->neighbours[n].ip == ip)
            return net->neighbours[n].mac;
    return NULL;
}

static void learn(struct net *net, uint32_t ip, const uint8_t *mac)
{
    uint8_t *known = neighbour(net, ip);
    if (!known) {
        unsigned n = net->next_neighbour++ % NEIGHBOURS;
        net->neighbours[n].ip = ip;
        known = net->neighbours[n].mac;
    }
    memcpy(known, mac, 6);
}

static void arp_received(struct virtio *device, const uint8_t *frame, unsigned length)
{
    struct net *net = net_of(device);
    if (length < ARP_END || get32(frame + ARP) != (1 << 16 | TYPE_IPV4) || !net->ip ||
        get32(frame + ARP_TARGET_IP) != net->ip)
        return;
    uint32_t sender = get32(frame + ARP_SENDER_IP);
    learn(net, sender, frame + ARP_SENDER_MAC);
    if (get16(frame + ARP_OPERATION) == ARP_REQUEST)
        arp_send(device, ARP_REPLY, frame + ARP_SENDER_MAC, sender);
    else if (!net->sequence && sender == net->asked)
        net->answered = true;
}

/* The frame goes back as it came, but for the addresses and the type; what the type takes from the
 * sum, the checksum gets (RFC 1624). */
static void echo_answer(struct virtio *device, const uint8_t *request, unsigned length)
{
    unsigned id;
    uint8_t *frame = frame_begin(device, &id);
    if (!frame)
        return;
    memcpy(frame, request, length);
    ethernet(net_of(device), frame, request + 6, TYPE_IPV4);
    memcpy(frame + IP_SOURCE, request + IP_TARGET, 4);
    memcpy(frame + IP_TARGET, request + IP_SOURCE, 4);
    frame[ICMP] = ECHO_REPLY;
    uint32_t sum = get16(request + ICMP_CHECKSUM) + (ECHO_REQUEST << 8);
    put16(frame + ICMP_CHECKSUM, sum + (sum >> 16));
    frame_send(device, id, length);
}

static void ip_received(struct virtio *device, const uint8_t *frame, unsigned length)
{
    struct net *net = net_of(device);
    if (length < ICMP_DATA || frame[IP] != 0x45 || get16(frame + IP_FRAGMENT) & 0x3fff ||
        frame[IP_PROTOCOL] != PROTOCOL_ICMP || !net->ip || get32(frame + IP_TARGET) != net->ip)
        return;
    unsigned bytes = get16(frame + IP_LENGTH);
    if (bytes < ICMP_DATA - IP || bytes > length - IP)
        return;
    if (frame[ICMP] == ECHO_REQUEST)
        echo_answer(device, frame, IP + bytes);
    else if (frame[ICMP] == ECHO_REPLY && get16(frame + ICMP_ID) == PING_ID && net->sequence &&
             get16(frame + ICMP_SEQUENCE) == net->sequence &&
             get32(frame + IP_SOURCE) == net->asked && !checksum(frame + ICMP, bytes - 20))
        net->answered = true;
}

static void service(struct virtio *device)
{
    unsigned id, served = 0;
    uint32_t length;
    while (served < SERVED_MAX && virtio_take(device, RECEIVE, &id, &length)) {
        id %= RECEIVE_BUFFERS;
        const uint8_t *frame = receive_buffers[virtio_index(device)][id] + HEADER;
        served++;
        net_of(device)->received++;
        if (length >= HEADER + FRAME_MIN && length <= HEADER + FRAME_MAX) {
            length -= HEADER;
            if (get16(frame + ETHER_TYPE) == TYPE_ARP)
                arp_received(device, frame, length);
            else if (get16(frame + ETHER_TYPE) == TYPE_IPV4)
                ip_received(device, frame, length);
        }
        offer(device, id);
    }
    if (served)
        virtio_notify(device, RECEIVE);
    if (served == SERVED_MAX)
        virtio_again(device);
}

VIRTIO_DRIVER(net, .kind = VIRTIO_NET, .queues = 2, .features = F_MAC | F_STATUS,
              .configure = configure, .describe = describe, .start = start, .service = service);

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

enum waited { ANSWERED, TIMEOUT, STOPPED };

/* Serves all devices meanwhile: two guests may ping each other. */
static enum waited wait_for_answer(struct net *net)
{
    enum waited how = TIMEOUT;
    timer_start(PING_LIMIT, 1);
    for (;;) {
        virtio_attend();
        if (net->answered)
            how = ANSWERED;
        else if (serial_interrupted())
            how = STOPPED;
        if (how != TIMEOUT || timer_ticks)
            break;
        interrupts_off();
        if (!virtio_attention && !timer_ticks)
            sleep_until_interrupt();
        interrupts_on();
    }
    if (!timer_ticks)
        timer_stop();
    return how;
}

static void echo_send(struct virtio *device, const uint8_t *to)
{
    struct net *net = net_of(device);
    unsigned id;
    uint8_t *frame = frame_begin(device, &id);
    if (!frame)
        return;
    memset(frame + IP, 0, ICMP_DATA - IP);
    ethernet(net, frame, to, TYPE_IPV4);
    frame[IP] = 0x45;
    put16(frame + IP_LENGTH, ICMP_DATA - IP + PING_BYTES);
    frame[IP + 8] = 64;
    frame[IP_PROTOCOL] = PROTOCOL_ICMP;
    put32(frame + IP_SOURCE, net->ip);
    put32(frame + IP_TARGET, net->asked);
    put16(frame + IP_CHECKSUM, checksum(frame + IP, ICMP - IP));
    frame[ICMP] = ECHO_REQUEST;
    put16(frame + ICMP_ID, PING_ID);
    put16(frame + ICMP_SEQUENCE, net->sequence);
    for (unsigned n = 0; n < PING_BYTES; n++)
        frame[ICMP_DATA + n] = 'a' + n % 26;
    put16(frame + ICMP_CHECKSUM, checksum(frame + ICMP, 8 + PING_BYTES));
    frame_send(device, id, ICMP_DATA + PING_BYTES);
}

static void ping(struct virtio *device, uint32_t ip, unsigned count)
{
    static const char *const words[] = {"answered", "timeout", "stopped"};
    struct net *net = net_of(device);
    enum waited how = ANSWERED;
    net->asked = ip;
    net->sequence = 0;
    net->answered = neighbour(net, ip);
    if (!net->answered) {
        arp_send(device, ARP_REQUEST, NULL, ip);
        how = wait_for_answer(net);
    }
    uint8_t *mac = neighbour(net, ip);
    if (!mac) {
        virtio_say(device);
        print(how == STOPPED ? "stopped\n" : "nobody has that address\n");
        return;
    }
    unsigned answers = 0;
    for (unsigned n = 1; how != STOPPED && n <= count; n++) {
        net->sequence = n;
        net->answered = false;
        echo_send(device, mac);
        how = wait_for_answer(net);
        answers += how == ANSWERED;
        virtio_say(device);
        print_ip(ip);
        print(" ping %u: %s\n", n, words[how]);
    }
    net->sequence = 0;
    if (count > 1) {
        virtio_say(device);
        print("%u of %u answered\n", answers, count);
    }
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
