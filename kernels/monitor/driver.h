/* What the monitor knows to recognise in a device window, besides virtio (virtio.h). A new driver is
 * a file in the Makefile:
 *
 *     DRIVER(dice)
 *     {
 *         if (id != DICE_ID)
 *             return false;
 *         print("dice, %u sides\n", read32(base + DICE_SIDES));
 *         return true;
 *     }
 */
#ifndef DRIVER_H
#define DRIVER_H

#include "io.h"

struct driver {
    const char *name;
    /* Whether the device at `base` is this driver's; if so it has been described, to the end of
     * the line. `id` is its first register, read once for all drivers: a read may be an event. */
    bool (*probe)(uintptr_t base, unsigned irq, uint32_t id);
};

extern const struct driver *const drivers_start[], *const drivers_end[];

/* Asks the drivers; ends the line. */
void describe(uintptr_t base, unsigned irq, uint32_t id);

#define DRIVER(tag)                                                                                \
    static bool tag##_probe(uintptr_t, unsigned, uint32_t);                                        \
    static const struct driver tag##_driver = {#tag, tag##_probe};                                 \
    __attribute__((used, section(".drivers." #tag)))                                               \
    static const struct driver *const tag##_pointer = &tag##_driver;                               \
    static bool tag##_probe(__attribute__((unused)) uintptr_t base,                                \
                            __attribute__((unused)) unsigned irq,                                  \
                            __attribute__((unused)) uint32_t id)

#endif
