/* Looks at every place where a device can be. */
#include "command.h"
#include "driver.h"
#include "hotplug.h"
#include "own.h"
#include "platform.h"
#include "virtio.h"

#define VIRTIO_VERSION 0x04
#define VIRTIO_DEVICE_ID 0x08

void present(const char *where, const char *name, bool there)
{
    print("%-18s %s%s\n", where, name, there ? "" : ": none");
}

void describe(uintptr_t base, unsigned irq, uint32_t id)
{
    for (const struct driver *const *at = drivers_start; at < drivers_end; at++)
        if ((*at)->probe(base, irq, id))
            return;
    if (id == VIRTIO_MMIO_MAGIC)
        print("virtio-mmio version %u, device id %u\n", read32(base + VIRTIO_VERSION),
              read32(base + VIRTIO_DEVICE_ID));
    else
        print("id 0x%08x\n", id);
}

static bool has_driver(uintptr_t base)
{
    for (struct virtio *device = virtio_devices; device < virtio_devices + DEVICES_MAX; device++)
        if (device->driver && device->base == base)
            return true;
    return false;
}

static void windows(void)
{
    /* vmlab's holes read all ones; another machine's may read zero. */
    uint32_t hole = probe32(HOLE_ADDRESS);
    unsigned empty = 0;
    for (unsigned n = 0; n < DEVICE_COUNT; n++) {
        uintptr_t base = DEVICE_BASE + n * DEVICE_SIZE;
        if (has_driver(base))
            continue;
        uint32_t id = probe32(base);
        if (id == hole || (id == VIRTIO_MMIO_MAGIC && !read32(base + VIRTIO_DEVICE_ID))) {
            empty++;
        } else {
            print("0x%08lx  irq %-2u ", base, DEVICE_FIRST_IRQ + n);
            describe(base, DEVICE_FIRST_IRQ + n, id);
        }
    }
    print("%u of %u device windows empty\n", empty, DEVICE_COUNT);
}

COMMAND(devices, "", "probe fixed devices and device windows")
{
    own_devices();
    if (hotplug_present()) {
        hotplug_list();
        return;
    }
    for (struct virtio *device = virtio_devices; device < virtio_devices + DEVICES_MAX; device++)
        if (device->driver)
            print("0x%08lx  irq %-2u %s, %s\n", device->base, device->irq, device->driver->name,
                  device->failed ? "failed" : "driver ok");
    windows();
}
