/* A network card of the monitor: frames, and what is known of the network. */
#ifndef NET_H
#define NET_H

#include "virtio.h"

#define FRAME_MIN 14
#define FRAME_MAX 1514
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

struct net *net_of(const struct virtio *device);
/* A frame to fill, or NULL while all are under way: then it is dropped, as a wire would. */
uint8_t *frame_begin(struct virtio *device, unsigned *id);
void frame_send(struct virtio *device, unsigned id, unsigned length);

/* ARP, IPv4 and ICMP: learns and answers. The length of the frame is FRAME_MIN to FRAME_MAX. */
void frame_received(struct virtio *device, const uint8_t *frame, unsigned length);
void ping(struct virtio *device, uint32_t ip, unsigned count);
void print_ip(uint32_t ip);

/* Numbers on the wire are big-endian. */
static inline uint16_t get16(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

static inline uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static inline void put16(uint8_t *at, uint16_t value)
{
    at[0] = value >> 8;
    at[1] = value;
}

static inline void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

#endif
