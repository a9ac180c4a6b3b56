/* The hot-plug controller; where there is none, the command line and the fixed windows. */
#include "hotplug.h"

#include "command.h"
#include "driver.h"
#include "interrupt.h"
#include "platform.h"
#include "shell.h"
#include "virtio.h"

#define VERSION 0x004
#define DEVICE_ID 0x008

volatile bool hotplug_attention;

static bool there;
static uint64_t in_use; /* slots that have been answered for */

struct place {
    uintptr_t base;
    uint32_t irq;
    uint32_t kind;
};

static uint32_t get(unsigned offset)
{
    return read32(HOTPLUG_BASE + offset);
}

static void set(unsigned offset, uint32_t value)
{
    write32(HOTPLUG_BASE + offset, value);
}

static void changed(__attribute__((unused)) unsigned line)
{
    hotplug_attention = true;
}

bool hotplug_present(void)
{
    return there;
}

static const char *kind_name(uint32_t kind)
{
    const struct virtio_driver *driver = virtio_driver(kind);
    return driver ? driver->name : kind ? "virtio device" : "device";
}

static void print_place(const struct place *place)
{
    print("%s at 0x%lx", kind_name(place->kind), place->base);
    if (place->irq != HOTPLUG_NO_LINE)
        print(" irq %u", place->irq);
}

static struct virtio *in_slot(unsigned slot)
{
    for (struct virtio *device = virtio_devices; device < virtio_devices + DEVICES_MAX; device++)
        if (device->driver && device->slot == (int)slot)
            return device;
    return NULL;
}

static struct place read_place(void)
{
    return (struct place){
        .base = get(HOTPLUG_BASE_LOW) | (uint64_t)get(HOTPLUG_BASE_HIGH) << 32,
        .irq = get(HOTPLUG_LINE),
        .kind = get(HOTPLUG_KIND),
    };
}

static void say(unsigned slot)
{
    notice();
    print("hot-plug: slot %u: ", slot);
}

/* Printed after the answers: whoever waits for the driver need not wait for the line. */
static void added(unsigned slot)
{
    struct place place = read_place();
    set(HOTPLUG_ANSWER, HOTPLUG_ANSWER_SEEN);
    bool ok = !place.kind;
    if (place.kind && place.base < MAPPED_END)
        ok = virtio_add(place.base, place.irq, place.kind, slot, place.irq >= LEVEL_FIRST_IRQ);
    set(HOTPLUG_ANSWER, ok ? HOTPLUG_ANSWER_DRIVER_OK : HOTPLUG_ANSWER_FAILED);
    in_use |= 1ul << slot;
    say(slot);
    print_place(&place);
    print(ok ? "\n" : virtio_driver(place.kind) ? ": failed\n" : ": no driver\n");
}

static void forget(unsigned slot, bool still_there)
{
    struct virtio *device = in_slot(slot);
    if (device)
        virtio_remove(device, still_there);
    in_use &= ~(1ul << slot);
}

static void attend_slot(unsigned slot)
{
    set(HOTPLUG_SLOT, slot);
    uint32_t state = get(HOTPLUG_STATE);
    if (state == HOTPLUG_ADDED) {
        forget(slot, false); /* replaced, or removed and added since */
        added(slot);
    } else if (state == HOTPLUG_REMOVING) {
        forget(slot, true);
        set(HOTPLUG_ANSWER, HOTPLUG_ANSWER_RELEASED);
        say(slot);
        print("released\n");
    } else if (state == HOTPLUG_EMPTY && in_use >> slot & 1) {
        forget(slot, false);
        say(slot);
        print("gone\n");
    }
}

void hotplug_attend(void)
{
    hotplug_attention = false;
    uint64_t slots = get(HOTPLUG_EVENT_LOW);
    slots |= (uint64_t)get(HOTPLUG_EVENT_HIGH) << 32;
    while (slots) {
        attend_slot(__builtin_ctzl(slots));
        slots &= slots - 1;
    }
}

static void controller_init(void)
{
    irq_enable(HOTPLUG_IRQ, changed);
    /* No event tells of what was plugged before the guest began. */
    for (unsigned slot = 0; slot < HOTPLUG_SLOTS_MAX; slot += 4) {
        uint32_t present = get(HOTPLUG_PRESENT + slot);
        for (unsigned n = 0; present; n++, present >>= 8)
            if (present & 0xff)
                attend_slot(slot + n);
    }
    hotplug_attend();
}

static void cold(const struct place *place, bool level)
{
    bool ok = virtio_add(place->base, place->irq, place->kind, -1, level);
    print_place(place);
    print(ok ? "\n" : virtio_driver(place->kind) ? ": failed\n" : ": no driver\n");
}

static bool virtio_there(struct place *place)
{
    if (probe32(place->base) != VIRTIO_MMIO_MAGIC || read32(place->base + VERSION) != 2)
        return false;
    place->kind = read32(place->base + DEVICE_ID);
    return place->kind;
}

static bool after(const char **at, char mark, uint64_t *value)
{
    return **at == mark && (++*at, parse_digits(at, value));
}

/* The field's way to tell a kernel: virtio_mmio.device=SIZE@BASE:IRQ. Returns how many there were. */
static unsigned from_command_line(void)
{
    static const char key[] = "virtio_mmio.device=";
    unsigned found = 0;
    for (const char *at = command_line(start_info); *at;) {
        const char *name = key;
        while (*name && *at == *name)
            at++, name++;
        uint64_t base, irq;
        if (!*name) {
            while (*at && *at != ' ' && *at != '@')
                at++;
            if (after(&at, '@', &base) && after(&at, ':', &irq) &&
                base < MAPPED_END - DEVICE_SIZE && base % 4 == 0) {
                struct place place = {base, irq, 0};
                found++;
                if (virtio_there(&place))
                    cold(&place, true);
            }
        }
        while (*at && *at != ' ')
            at++;
        while (*at == ' ')
            at++;
    }
    return found;
}

void hotplug_init(void)
{
    there = probe32(HOTPLUG_BASE + HOTPLUG_ID) == HOTPLUG_ID_VALUE;
    if (there) {
        controller_init();
    } else if (!from_command_line()) {
        for (unsigned n = 0; n < DEVICE_COUNT; n++) {
            struct place place = {DEVICE_BASE + n * DEVICE_SIZE, DEVICE_FIRST_IRQ + n, 0};
            if (virtio_there(&place))
                cold(&place, false);
        }
    }
}

/* False if the slot is empty: a device that nobody had answered for need not be asked back. */
static bool list_slot(unsigned slot)
{
    static const char *const states[] = {
        "empty", "added", "seen", "driver ok", "failed", "removing",
    };
    set(HOTPLUG_SLOT, slot);
    uint32_t state = get(HOTPLUG_STATE);
    if (state == HOTPLUG_EMPTY)
        return false;
    struct place place = read_place();
    print("0x%08lx  ", place.base);
    if (place.irq != HOTPLUG_NO_LINE)
        print("irq %-2u ", place.irq);
    else
        print("       ");
    print("slot %u: %s, %s", slot, kind_name(place.kind),
          state < sizeof(states) / sizeof(*states) ? states[state] : "?");
    const struct driver *const *first = drivers_start;
    if (place.kind || first == drivers_end || place.base >= MAPPED_END) {
        print("\n");
    } else {
        print(", ");
        describe(place.base, place.irq, read32(place.base));
    }
    return true;
}

void hotplug_list(void)
{
    unsigned count = 0;
    for (uint64_t slots = in_use; slots; slots &= slots - 1)
        count += list_slot(__builtin_ctzl(slots));
    print("%u of %u slots in use\n", count, get(HOTPLUG_SLOTS));
}
