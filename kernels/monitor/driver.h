/* What the monitor knows to recognise in a device window. A new driver is a file in the Makefile:
 *
 *     DRIVER(dice)
 *     {
 *         if (read32(base) != DICE_ID)
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
    /* Whether the device at `base` is this driver's; if so it has been described, to the line's end. */
    bool (*probe)(uintptr_t base, unsigned irq);
};

#define DRIVER(id)                                                                                 \
    static bool id##_probe(uintptr_t, unsigned);                                                   \
    static const struct driver id##_driver = {#id, id##_probe};                                    \
    __attribute__((used, section(".drivers." #id)))                                                \
    static const struct driver *const id##_driver_pointer = &id##_driver;                          \
    static bool id##_probe(__attribute__((unused)) uintptr_t base, __attribute__((unused)) unsigned irq)

#endif
