/* virtio devices over MMIO (virtio 1.2 §4.2), and what a driver for one looks like:
 *
 *     static bool start(struct virtio *device) { ... }
 *
 *     VIRTIO_DRIVER(dice, .kind = 42, .queues = 1, .start = start);
 *
 * The transport resets the device, agrees on features and sets up the queues; then `start` runs,
 * with the device at DRIVER_OK. A driver keeps its state in an array of DEVICES_MAX elements, at
 * virtio_index(device): nothing is allocated, so nothing can leak.
 */
#ifndef VIRTIO_H
#define VIRTIO_H

#include "io.h"
#include "platform.h"

/* Devices at a time: one a slot. */
#define DEVICES_MAX HOTPLUG_SLOTS_MAX
#define QUEUES_MAX 2
#define QUEUE_SIZE 16

#define VIRTIO_NET 1
#define VIRTIO_BLOCK 2
#define VIRTIO_CONSOLE 3
#define VIRTIO_RNG 4

struct virtio_queue {
    /* What the device reads and writes, virtio 1.2 §2.7. */
    struct {
        uint64_t address;
        uint32_t length;
        uint16_t flags;
        uint16_t next;
    } descriptors[QUEUE_SIZE] __attribute__((aligned(16)));
    struct {
        uint16_t flags;
        uint16_t index;
        uint16_t ring[QUEUE_SIZE];
    } available;
    struct {
        uint16_t flags;
        volatile uint16_t index;
        volatile struct {
            uint32_t id;
            uint32_t length;
        } ring[QUEUE_SIZE];
    } used __attribute__((aligned(4)));
    /* The driver's own. */
    uint16_t size;
    uint16_t seen; /* used entries taken */
};

struct virtio_driver;

struct virtio {
    const struct virtio_driver *driver; /* NULL: a free place */
    uintptr_t base;
    unsigned irq;
    struct virtio *next_on_irq; /* of those that share the line */
    unsigned unit; /* the how-many-eth of its driver's devices, from 0 */
    int slot;      /* of the hot-plug controller, or -1 */
    bool failed;
    bool fresh; /* it starts for the first time, not after a reset that it needed */
    uint64_t features;       /* agreed on */
    volatile uint8_t events; /* VIRTIO_USED, VIRTIO_CONFIG; set by the interrupt handler */
    struct virtio_queue queues[QUEUES_MAX];
};

#define VIRTIO_USED 1
#define VIRTIO_CONFIG 2

struct virtio_driver {
    const char *name;
    unsigned kind;   /* virtio device id */
    unsigned queues; /* at most QUEUES_MAX */
    unsigned units;  /* devices at a time; 0: as many as there can be */
    uint64_t features; /* that it can use, below VIRTIO_F_VERSION_1 */
    /* Reads the configuration; true if something changed that `describe` tells. It may be called
     * again at once, when the configuration changed under it. */
    bool (*configure)(struct virtio *device);
    void (*describe)(const struct virtio *device); /* a few words, no line end */
    bool (*start)(struct virtio *device);
    void (*service)(struct virtio *device); /* after an interrupt, in the main loop */
};

#define VIRTIO_DRIVER(tag, ...)                                                                    \
    static const struct virtio_driver tag##_driver = {.name = #tag, __VA_ARGS__};                  \
    __attribute__((used, section(".virtio." #tag)))                                                \
    static const struct virtio_driver *const tag##_driver_pointer = &tag##_driver

extern struct virtio virtio_devices[DEVICES_MAX];
/* Set by the interrupt handler: some device has events. */
extern volatile bool virtio_attention;

static inline unsigned virtio_index(const struct virtio *device)
{
    return device - virtio_devices;
}

/* Puts the device at `base` into service; NULL if there is no driver, no place, or it failed. `level`: its
 * line stays high until it is acknowledged, so that others may share it. */
struct virtio *virtio_add(uintptr_t base, unsigned irq, unsigned kind, int slot, bool level);
/* Lets a device go; `there`: it can still be reset. */
void virtio_remove(struct virtio *device, bool there);
/* Serves the devices that asked for attention. */
void virtio_attend(void);

/* The first device of a line, or NULL. */
const struct virtio *virtio_on(unsigned irq);
/* The unit-th device of a driver, or NULL, which is then said. */
struct virtio *virtio_find(const struct virtio_driver *driver, unsigned unit);
/* "rng: " or "rng 1: " at the beginning of a line. */
void virtio_say(const struct virtio *device);
/* A name for a virtio device id; NULL if no driver is for it. */
const struct virtio_driver *virtio_driver(unsigned kind);

/* The device's configuration, in accesses of the fields' width (§4.2.2.2). */
uint8_t virtio_config8(const struct virtio *device, unsigned offset);
uint16_t virtio_config16(const struct virtio *device, unsigned offset);
uint32_t virtio_config32(const struct virtio *device, unsigned offset);

/* One buffer of a request. */
struct virtio_part {
    const void *data;
    uint32_t length;
    bool filled; /* by the device */
};

#define PARTS_MAX 3

/* Sends a request and sleeps until it is done. What goes wrong, a timeout say, is printed, and the
 * device reset, so that it writes to the buffers no more. `written`: bytes that the device says it
 * has written, no more than there was room for. */
bool virtio_request(struct virtio *device, unsigned queue, const struct virtio_part *parts,
                    unsigned count, uint32_t *written);
/* The same without the wait: one buffer of its own descriptor `id`. */
void virtio_give(struct virtio *device, unsigned queue, unsigned id, const void *data,
                 uint32_t length, bool filled);
/* The next buffer that the device has done with; false if there is none. */
bool virtio_take(struct virtio *device, unsigned queue, unsigned *id, uint32_t *length);
/* Interrupts when the device has done with buffers of this queue: on unless switched off. */
void virtio_quiet(struct virtio *device, unsigned queue);
/* Serve the device once more, when the others and the keyboard have had their turn. */
void virtio_again(struct virtio *device);
void virtio_notify(const struct virtio *device, unsigned queue);

/* What one command transfers at most, and the buffer for it. */
extern uint8_t transfer[0x10000];
/* Sum of its first bytes as 64-bit numbers, the last one padded with zeroes. */
uint64_t transfer_sum(uint32_t length);

#endif
