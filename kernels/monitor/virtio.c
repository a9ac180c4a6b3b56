/* virtio-mmio, version 2: the part of a device that is the same for all of them. */
#include "virtio.h"

#include "interrupt.h"
#include "serial.h"
#include "shell.h"
#include "text.h"
#include "timer.h"

/* Registers, virtio 1.2 §4.2.2. */
#define MAGIC_VALUE 0x000
#define VERSION 0x004
#define DEVICE_ID 0x008
#define DEVICE_FEATURES 0x010
#define DEVICE_FEATURES_SEL 0x014
#define DRIVER_FEATURES 0x020
#define DRIVER_FEATURES_SEL 0x024
#define QUEUE_SEL 0x030
#define QUEUE_NUM_MAX 0x034
#define QUEUE_NUM 0x038
#define QUEUE_READY 0x044
#define QUEUE_NOTIFY 0x050
#define INTERRUPT_STATUS 0x060
#define INTERRUPT_ACK 0x064
#define STATUS 0x070
#define QUEUE_DESC_LOW 0x080
#define QUEUE_DRIVER_LOW 0x090
#define QUEUE_DEVICE_LOW 0x0a0
#define CONFIG_GENERATION 0x0fc
#define CONFIG 0x100

/* Status bits, §2.1. */
#define ACKNOWLEDGE 1
#define DRIVER 2
#define DRIVER_OK 4
#define FEATURES_OK 8
#define DEVICE_NEEDS_RESET 64
#define FAILED 128

#define F_VERSION_1_HIGH 1 /* VIRTIO_F_VERSION_1 is bit 32 */

#define DESC_F_NEXT 1
#define DESC_F_WRITE 2
#define AVAIL_F_NO_INTERRUPT 1

#define QUEUE_SIZE_MIN 4 /* the longest request, to a power of two */
#define REQUEST_LIMIT 2000000 /* microseconds until a request is given up */
#define CONFIGURE_MAX 4       /* readings of a configuration that keeps changing */

extern const struct virtio_driver *const virtio_drivers_start[], *const virtio_drivers_end[];

struct virtio virtio_devices[DEVICES_MAX];
volatile bool virtio_attention;
uint8_t transfer[0x10000] __attribute__((aligned(4096)));

static struct virtio *by_line[LINES];

static uint32_t get(const struct virtio *device, unsigned offset)
{
    return read32(device->base + offset);
}

static void set(const struct virtio *device, unsigned offset, uint32_t value)
{
    write32(device->base + offset, value);
}

uint8_t virtio_config8(const struct virtio *device, unsigned offset)
{
    return read8(device->base + CONFIG + offset);
}

uint16_t virtio_config16(const struct virtio *device, unsigned offset)
{
    return read16(device->base + CONFIG + offset);
}

uint32_t virtio_config32(const struct virtio *device, unsigned offset)
{
    return get(device, CONFIG + offset);
}

/* Two accesses an interrupt, whatever it was for; of devices that share a line, for those it came from. */
static void interrupt_of_device(unsigned line)
{
    bool shared = by_line[line] && by_line[line]->next_on_irq;
    for (struct virtio *device = by_line[line]; device; device = device->next_on_irq) {
        uint32_t status = get(device, INTERRUPT_STATUS) & (VIRTIO_USED | VIRTIO_CONFIG);
        if (shared && !status)
            continue;
        set(device, INTERRUPT_ACK, status);
        device->events |= status;
        virtio_attention = true;
    }
}

static uint8_t take_events(struct virtio *device, uint8_t which)
{
    interrupts_off();
    uint8_t events = device->events & which;
    device->events &= ~which;
    interrupts_on();
    return events;
}

void virtio_again(struct virtio *device)
{
    interrupts_off();
    device->events |= VIRTIO_USED;
    interrupts_on();
    virtio_attention = true;
}

const struct virtio_driver *virtio_driver(unsigned kind)
{
    for (const struct virtio_driver *const *at = virtio_drivers_start; at < virtio_drivers_end; at++)
        if ((*at)->kind == kind)
            return *at;
    return NULL;
}

static struct virtio *find(const struct virtio_driver *driver, unsigned unit)
{
    for (struct virtio *device = virtio_devices; device < virtio_devices + DEVICES_MAX; device++)
        if (device->driver == driver && device->unit == unit)
            return device;
    return NULL;
}

const struct virtio *virtio_on(unsigned irq)
{
    return by_line[irq];
}

struct virtio *virtio_find(const struct virtio_driver *driver, unsigned unit)
{
    struct virtio *device = find(driver, unit);
    if (!device)
        print("%s: no such device\n", driver->name);
    else if (device->failed)
        print("%s: the device failed\n", driver->name);
    else
        return device;
    return NULL;
}

void virtio_say(const struct virtio *device)
{
    notice();
    print("%s", device->driver->name);
    if (device->unit)
        print(" %u", device->unit);
    print(": ");
}

/* Of an address only the low half is not 0: memory that the page tables reach. */
static void set_address(struct virtio *device, unsigned offset, const volatile void *address)
{
    set(device, offset, (uintptr_t)address);
    set(device, offset + 4, 0);
}

/* §4.2.3.2. The contents of the descriptors and rings do not matter, only where the rings begin. */
static bool queue_start(struct virtio *device, unsigned index)
{
    struct virtio_queue *queue = &device->queues[index];
    set(device, QUEUE_SEL, index);
    uint32_t longest = get(device, QUEUE_NUM_MAX);
    if (get(device, QUEUE_READY) || longest < QUEUE_SIZE_MIN)
        return false;
    for (queue->size = QUEUE_SIZE; queue->size > longest;)
        queue->size /= 2;
    queue->available.flags = queue->available.index = 0;
    queue->used.flags = queue->used.index = 0;
    queue->seen = 0;
    set(device, QUEUE_NUM, queue->size);
    set_address(device, QUEUE_DESC_LOW, queue->descriptors);
    set_address(device, QUEUE_DRIVER_LOW, &queue->available);
    set_address(device, QUEUE_DEVICE_LOW, &queue->used);
    set(device, QUEUE_READY, 1);
    return true;
}

static bool features_agreed(struct virtio *device)
{
    set(device, DEVICE_FEATURES_SEL, 0);
    uint32_t low = get(device, DEVICE_FEATURES) & device->driver->features;
    set(device, DEVICE_FEATURES_SEL, 1);
    uint32_t high = get(device, DEVICE_FEATURES) & F_VERSION_1_HIGH;
    if (!high)
        return false;
    set(device, DRIVER_FEATURES_SEL, 0);
    set(device, DRIVER_FEATURES, low);
    set(device, DRIVER_FEATURES_SEL, 1);
    set(device, DRIVER_FEATURES, high);
    device->features = low;
    set(device, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    return get(device, STATUS) & FEATURES_OK;
}

static bool configure(struct virtio *device)
{
    if (!device->driver->configure)
        return false;
    bool changed = false;
    for (unsigned turn = 0; turn < CONFIGURE_MAX; turn++) {
        uint32_t generation = get(device, CONFIG_GENERATION);
        changed |= device->driver->configure(device);
        if (get(device, CONFIG_GENERATION) == generation)
            break;
    }
    return changed;
}

static bool bring_up(struct virtio *device)
{
    if (get(device, STATUS))
        return false;
    set(device, STATUS, ACKNOWLEDGE);
    set(device, STATUS, ACKNOWLEDGE | DRIVER);
    if (!features_agreed(device))
        return false;
    for (unsigned n = 0; n < device->driver->queues; n++)
        if (!queue_start(device, n))
            return false;
    configure(device);
    set(device, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    return !device->driver->start || device->driver->start(device);
}

/* §3.1.1 */
static bool start(struct virtio *device)
{
    set(device, STATUS, 0);
    device->failed = false;
    device->events = 0;
    device->failed = !bring_up(device);
    device->fresh = false;
    if (device->failed)
        set(device, STATUS, get(device, STATUS) | FAILED);
    return !device->failed;
}

static void restart(struct virtio *device)
{
    if (!start(device)) {
        virtio_say(device);
        print("the device failed\n");
    }
}

static struct virtio *free_place(const struct virtio_driver *driver)
{
    struct virtio *device = find(NULL, 0);
    if (!device)
        return NULL;
    device->unit = 0;
    while (find(driver, device->unit))
        device->unit++;
    return driver->units && device->unit >= driver->units ? NULL : device;
}

struct virtio *virtio_add(uintptr_t base, unsigned irq, unsigned kind, int slot, bool level)
{
    const struct virtio_driver *driver = virtio_driver(kind);
    if (!driver || irq >= LINES || (by_line[irq] && !level) || read32(base) != VIRTIO_MMIO_MAGIC ||
        read32(base + VERSION) != 2 || read32(base + DEVICE_ID) != kind)
        return NULL;
    struct virtio *device = free_place(driver);
    if (!device)
        return NULL;
    device->base = base;
    device->irq = irq;
    device->slot = slot;
    device->fresh = true;
    device->driver = driver;
    device->next_on_irq = by_line[irq];
    by_line[irq] = device;
    (level ? irq_enable_level : irq_enable)(irq, interrupt_of_device);
    if (start(device))
        return device;
    virtio_remove(device, false);
    return NULL;
}

void virtio_remove(struct virtio *device, bool there)
{
    if (there) {
        set(device, STATUS, 0);
        get(device, STATUS); /* §4.2.2: the reset is over when it reads 0; here it is so at once */
    }
    struct virtio **link = &by_line[device->irq];
    while (*link != device)
        link = &(*link)->next_on_irq;
    *link = device->next_on_irq;
    device->driver = NULL;
    device->unit = 0;
    device->events = 0;
}

/* True if the device has asked for a reset, which it then got. */
static bool needed_reset(struct virtio *device)
{
    if (!(get(device, STATUS) & DEVICE_NEEDS_RESET))
        return false;
    virtio_say(device);
    print("device needs reset\n");
    restart(device);
    return true;
}

void virtio_attend(void)
{
    virtio_attention = false;
    for (struct virtio *device = virtio_devices; device < virtio_devices + DEVICES_MAX; device++) {
        if (!device->driver || !device->events)
            continue;
        uint8_t events = take_events(device, VIRTIO_USED | VIRTIO_CONFIG);
        if (events & VIRTIO_CONFIG) {
            if (device->failed || needed_reset(device))
                continue;
            if (configure(device)) {
                virtio_say(device);
                device->driver->describe(device);
                print("\n");
            }
        }
        if (events & VIRTIO_USED && device->driver->service && !device->failed)
            device->driver->service(device);
    }
}

static void put_descriptor(struct virtio_queue *queue, unsigned id, const struct virtio_part *part,
                           bool more)
{
    queue->descriptors[id].address = (uintptr_t)part->data;
    queue->descriptors[id].length = part->length;
    queue->descriptors[id].flags = (part->filled ? DESC_F_WRITE : 0) | (more ? DESC_F_NEXT : 0);
    queue->descriptors[id].next = id + 1;
}

/* The processor keeps the order of stores; the compiler has to be told. */
static void put_available(struct virtio_queue *queue, unsigned id)
{
    queue->available.ring[queue->available.index % queue->size] = id;
    __atomic_store_n(&queue->available.index, queue->available.index + 1, __ATOMIC_RELEASE);
}

/* Always, whatever the used ring's flags say: they depend on how fast the device is, and the
 * accesses of this kernel do not. */
void virtio_notify(const struct virtio *device, unsigned queue)
{
    set(device, QUEUE_NOTIFY, queue);
}

void virtio_give(struct virtio *device, unsigned queue, unsigned id, const void *data,
                 uint32_t length, bool filled)
{
    struct virtio_part part = {data, length, filled};
    put_descriptor(&device->queues[queue], id, &part, false);
    put_available(&device->queues[queue], id);
}

bool virtio_take(struct virtio *device, unsigned queue, unsigned *id, uint32_t *length)
{
    struct virtio_queue *at = &device->queues[queue];
    if (at->used.index == at->seen)
        return false;
    unsigned entry = at->seen++ % at->size;
    *id = at->used.ring[entry].id % at->size;
    *length = at->used.ring[entry].length;
    return true;
}

void virtio_quiet(struct virtio *device, unsigned queue)
{
    device->queues[queue].available.flags = AVAIL_F_NO_INTERRUPT;
}

/* Until the device has interrupted for a used buffer: one without an interrupt is a timeout too. */
static const char *wait(struct virtio *device, unsigned index)
{
    struct virtio_queue *queue = &device->queues[index];
    const char *wrong = NULL;
    timer_start(REQUEST_LIMIT, 1);
    interrupts_off();
    while (!(device->events & VIRTIO_USED) || queue->used.index == queue->seen) {
        if (timer_ticks)
            wrong = "timeout";
        else if (serial_interrupted())
            wrong = "stopped";
        else if (device->events & VIRTIO_CONFIG && get(device, STATUS) & DEVICE_NEEDS_RESET)
            wrong = "device needs reset";
        else
            sleep_until_interrupt();
        if (wrong)
            break;
    }
    interrupts_on();
    if (!timer_ticks)
        timer_stop();
    return wrong;
}

bool virtio_request(struct virtio *device, unsigned queue, const struct virtio_part *parts,
                    unsigned count, uint32_t *written)
{
    uint32_t room = 0;
    for (unsigned n = 0; n < count; n++) {
        put_descriptor(&device->queues[queue], n, &parts[n], n + 1 < count);
        room += parts[n].filled ? parts[n].length : 0;
    }
    put_available(&device->queues[queue], 0);
    take_events(device, VIRTIO_USED);
    virtio_notify(device, queue);
    const char *wrong = wait(device, queue);
    unsigned id = 0;
    *written = 0;
    if (!wrong && (!virtio_take(device, queue, &id, written) || id || *written > room))
        wrong = "the device answers nonsense";
    if (!wrong)
        return true;
    virtio_say(device);
    print("%s\n", wrong);
    restart(device);
    return false;
}
