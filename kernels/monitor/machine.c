/* The machine as a whole: its memory, interrupt lines, clocks and ends. */
#include "machine.h"

#include "command.h"
#include "interrupt.h"
#include "other_timer.h"
#include "own.h"
#include "serial.h"
#include "timer.h"
#include "virtio.h"

extern const char image_end[];

void region(uint64_t start, uint64_t size, const char *what)
{
    if (size)
        print("0x%08lx-0x%08lx  %s\n", start, start + size - 1, what);
}

COMMAND(regions, "", "show the physical address space")
{
    static const char *const kinds[] = {
        "type 0", "ram", "reserved", "acpi tables", "acpi nvs", "bad ram",
    };
    uint32_t entries;
    const struct memory_range *map = memory_map(start_info, &entries);
    if (!map)
        print("the loader gave no memory map\n");
    for (uint32_t i = 0; i < entries; i++) {
        bool known = map[i].type < sizeof(kinds) / sizeof(*kinds);
        region(map[i].start, map[i].size, known ? kinds[map[i].type] : "other");
    }
    region(KERNEL_BASE, (uint64_t)image_end - KERNEL_BASE, "this monitor, in ram");
    region(TIMER_BASE, TIMER_SIZE, "teaching timer");
    region(HOTPLUG_BASE, HOTPLUG_SIZE, "hot-plug controller");
    region(DEVICE_BASE, DEVICE_COUNT * DEVICE_SIZE, "device windows");
    own_regions();
}

static void print_irq_holder(unsigned irq)
{
    const struct virtio *device = virtio_on(irq);
    if (device)
        for (; device; device = device->next_on_irq)
            print("%s at 0x%08lx%s", device->driver->name, device->base, device->next_on_irq ? ", " : "");
    else if (irq == TIMER_IRQ)
        print("teaching timer");
    else if (irq == HOTPLUG_IRQ)
        print("hot-plug controller");
    else if (irq == SERIAL_IRQ)
        print("%s", SERIAL_NAME);
    else if (irq >= DEVICE_FIRST_IRQ && irq < DEVICE_FIRST_IRQ + DEVICE_COUNT)
        print("window 0x%08x", DEVICE_BASE + (irq - DEVICE_FIRST_IRQ) * DEVICE_SIZE);
    else if (irq >= LEVEL_FIRST_IRQ)
        print("shared");
    else
        print("%s", other_timer_name);
    print("\n");
}

COMMAND(irqs, "", "count the interrupts of each line")
{
    print("irq     count  holder\n");
    for (unsigned irq = 0; irq < LINES; irq++) {
        if (irq_enabled(irq)) {
            print("%3u  %8u  ", irq, irq_counts[irq]);
            print_irq_holder(irq);
        }
    }
}

COMMAND(cmdline, "", "show the kernel command line")
{
    print("%s\n", command_line(start_info));
}

COMMAND(timer, "MICROSECONDS", "arm the timer for one tick and wait")
{
    uint64_t period;
    if (!required(argc, argv, 1, "microseconds", &period) || !fits(argv, period, 4))
        return;
    timer_start(period, 1);
    interrupts_off();
    while (!timer_ticks && !serial_interrupted())
        sleep_until_interrupt();
    interrupts_on();
    if (timer_ticks) {
        print("timer: %s, tick after %lu us\n", timer_name(), period);
    } else {
        timer_stop();
        print("timer: stopped\n");
    }
}

COMMAND(reset, "", "reset the machine")
{
    machine_reset();
}

COMMAND(exit, "[VALUE]", "switch off, or end with " EXIT_STATUS)
{
    uint64_t value;
    if (optional(argc, argv, 1, "value", 0, &value) && fits(argv, value, 4))
        machine_exit(value);
}
