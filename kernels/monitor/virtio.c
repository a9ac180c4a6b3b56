/* virtio-mmio: the part of a device that is the same for all of them (virtio 1.2 §4.2.2). */
#include "driver.h"
#include "platform.h"
#include "text.h"

#define VERSION 0x04
#define DEVICE_ID 0x08

DRIVER(virtio)
{
    if (id != VIRTIO_MMIO_MAGIC)
        return false;
    uint32_t version = read32(base + VERSION);
    uint32_t device = read32(base + DEVICE_ID);
    print("virtio-mmio version %u, ", version);
    if (device)
        print("device id %u\n", device);
    else
        print("no device\n");
    return true;
}
