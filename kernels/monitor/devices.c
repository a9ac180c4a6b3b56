/* Looks at every place where a device can be. */
#include "command.h"
#include "driver.h"
#include "hotplug.h"
#include "lapic.h"
#include "platform.h"
#include "virtio.h"

#define COM1_LSR (COM1_PORT + 5)
#define RTC_STATUS_D 0x0d
#define IOAPIC_VERSION 1
#define LAPIC_VERSION 0x30
#define VIRTIO_VERSION 0x04
#define VIRTIO_DEVICE_ID 0x08

static void present(const char *where, const char *name, bool there)
{
    print("%-18s %s%s\n", where, name, there ? "" : ": none");
}

static void fixed_devices(void)
{
    present("port 0x3f8  irq 4", "com1", in8(COM1_LSR) != 0xff);
    present("port 0x64", "i8042", in8(I8042_COMMAND_PORT) != 0xff);
    out8(RTC_INDEX_PORT, RTC_STATUS_D);
    present("port 0x70", "rtc", in8(RTC_DATA_PORT) != 0xff);
    present("0xcf000000  irq 3", "teaching timer", read32(TIMER_BASE + TIMER_ID) == TIMER_ID_VALUE);
    present("0xcf001000  irq 1", "hot-plug controller", hotplug_present());
    write32(IOAPIC_BASE, IOAPIC_VERSION);
    unsigned last_pin = read32(IOAPIC_BASE + 0x10) >> 16 & 0xff;
    print("0x%08x         ioapic, %u pins\n", IOAPIC_BASE, last_pin + 1);
    print("0x%08x         local apic %u, version 0x%02x\n", LAPIC_BASE, lapic_id(),
          lapic_read(LAPIC_VERSION) & 0xff);
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
    uint32_t hole = read32(HOLE_ADDRESS);
    unsigned empty = 0;
    for (unsigned n = 0; n < DEVICE_COUNT; n++) {
        uintptr_t base = DEVICE_BASE + n * DEVICE_SIZE;
        if (has_driver(base))
            continue;
        uint32_t id = read32(base);
        if (id == hole) {
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
    fixed_devices();
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
