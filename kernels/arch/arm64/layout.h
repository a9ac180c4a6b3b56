/* vmlab's arm64 machine: its addresses and lines. A line's number is its INTID. */
#ifndef LAYOUT_H
#define LAYOUT_H

/* Memory */
#define RAM_BASE 0x80000000
#define KERNEL_BASE 0x80080000   /* where the images are linked */
#define MAPPED_END 0x8000000000  /* the page table maps 512 GiB onto themselves, those below RAM as devices */

/* The serial line, a PL011 */
#define SERIAL_BASE 0x0a001000
#define SERIAL_IRQ 32
#define SERIAL_NAME "serial"
/* The clock, a PL031, and the GPIO block, a PL061, with the power key */
#define RTC_BASE 0x0a002000
#define RTC_IRQ 33
#define GPIO_BASE 0x0a003000
#define GPIO_IRQ 34
#define DEBUG_EXIT_BASE 0x09003000 /* a write of v ends the run with status (v << 1) | 1 */

/* vmlab's teaching timer, and its hot-plug controller: slot n is the window n below those for devices */
#define TIMER_BASE 0x09000000
#define TIMER_IRQ 160
#define HOTPLUG_BASE 0x09001000
#define HOTPLUG_IRQ 161

/* Windows for virtio-mmio and users' devices. Where nothing else tells, window n has line
 * DEVICE_FIRST_IRQ + n. Every line has one holder: they are edges, as on a PC. */
#define DEVICE_BASE 0x0a004000
#define DEVICE_SIZE 0x1000
#define DEVICE_COUNT 11
#define DEVICE_FIRST_IRQ 35
#define LEVEL_FIRST_IRQ 192
#define HOLE_ADDRESS 0x08fff000  /* nothing is ever here: shows what a hole reads as */

/* The interrupt controller: the distributor, and the CPU interface of version 2; the registers of
 * version 3 are the CPU's. Its redistributors lie below the distributor, one behind another. */
#define GICV2_DISTRIBUTOR 0x09fff000
#define GICV2_CPU 0x09ffd000
#define GICV3_DISTRIBUTOR 0x09ff0000
#define GIC_END 0x0a000000
#define LINES 192

/* The generic timer's line: virtual, of each CPU */
#define GENERIC_TIMER_IRQ 27

#endif
