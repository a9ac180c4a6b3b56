/* Just enough of ARP, IPv4 and ICMP to ask who is there, and to answer. */
#include "net.h"
#include "serial.h"
#include "text.h"
#include "timer.h"

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

void print_ip(uint32_t ip)
{
    print("%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
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
    for (unsigned n = 0; ip && n < NEIGHBOURS; n++) /* 0 marks a free entry */
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

void frame_received(struct virtio *device, const uint8_t *frame, unsigned length)
{
    if (get16(frame + ETHER_TYPE) == TYPE_ARP)
        arp_received(device, frame, length);
    else if (get16(frame + ETHER_TYPE) == TYPE_IPV4)
        ip_received(device, frame, length);
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

void ping(struct virtio *device, uint32_t ip, unsigned count)
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
