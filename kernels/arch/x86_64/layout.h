/* A PC: its addresses, ports and lines.
 *
 * QEMU's microvm has the same machine without the teaching timer, the hot-plug controller and the
 * device windows: its virtio devices lie elsewhere, and the command line says where.
 */
#ifndef LAYOUT_H
#define LAYOUT_H

/* Memory */
#define KERNEL_BASE 0x100000     /* where the images are linked */
#define TRAMPOLINE 0x8000        /* first code of a second CPU: a 4 KiB page below 1 MiB */
#define MAPPED_END 0x100000000   /* the page tables map [0, 4 GiB) onto itself */

/* Port I/O */
#define COM1_PORT 0x3f8
#define COM1_IRQ 4
#define SERIAL_IRQ COM1_IRQ
#define SERIAL_NAME "com1"
#define PIC1_DATA_PORT 0x21
#define PIC2_DATA_PORT 0xa1
#define PIT_CHANNEL0_PORT 0x40
#define PIT_COMMAND_PORT 0x43
#define PIT_HZ 1193182
#define I8042_COMMAND_PORT 0x64
#define I8042_RESET 0xfe
#define RTC_INDEX_PORT 0x70
#define RTC_DATA_PORT 0x71
#define SLEEP_CONTROL_PORT 0x600 /* ACPI: SLEEP_ENTER with SLEEP_SOFT_OFF switches the machine off */
#define SLEEP_ENTER 0x20
#define SLEEP_SOFT_OFF (5 << 2)
#define DEBUG_EXIT_PORT 0xf4     /* a write of v ends the run with status (v << 1) | 1 */

/* vmlab's teaching timer, and its hot-plug controller: slot n is window n */
#define TIMER_BASE 0xcf000000
#define TIMER_IRQ 3
#define HOTPLUG_BASE 0xcf001000
#define HOTPLUG_IRQ 1

/* Windows for virtio-mmio and users' devices. Where nothing else tells, window n has line
 * DEVICE_FIRST_IRQ + n. Lines from LEVEL_FIRST_IRQ up are levels, and shared; those below are edges. */
#define DEVICE_BASE 0xd0000000
#define DEVICE_SIZE 0x1000
#define DEVICE_COUNT 11
#define DEVICE_FIRST_IRQ 5
#define LEVEL_FIRST_IRQ 16
#define HOLE_ADDRESS 0xcffff000  /* nothing is ever here: shows what a hole reads as */

/* Interrupt controllers */
#define IOAPIC_BASE 0xfec00000
#define IOAPIC_SIZE 0x1000
#define IOAPIC_PINS 24
#define LINES IOAPIC_PINS
#define LAPIC_BASE 0xfee00000
#define LAPIC_SIZE 0x1000

/* Interrupt vectors: exceptions, then one per IOAPIC pin */
#define IRQ_VECTOR 0x20
#define SPURIOUS_VECTOR 0x3f
#define VECTORS 0x40

/* Selectors of the kernels' GDT */
#define CODE_SELECTOR 0x08
#define DATA_SELECTOR 0x10

#endif
