/* The machine these kernels run on: one name per address, line and bit.
 *
 * Included from C and from assembly, so it holds nothing but #define lines.
 * QEMU's microvm has the same machine without the teaching timer, the hot-plug controller and the
 * device windows: its virtio devices lie elsewhere, and the command line says where.
 */
#ifndef PLATFORM_H
#define PLATFORM_H

/* Memory */
#define KERNEL_BASE 0x100000     /* where the images are linked */
#define TRAMPOLINE 0x8000        /* first code of a second CPU: a 4 KiB page below 1 MiB */
#define MAPPED_END 0x100000000   /* the page tables map [0, 4 GiB) onto itself */

/* Port I/O */
#define COM1_PORT 0x3f8
#define COM1_IRQ 4
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

/* vmlab's teaching timer: 32-bit registers */
#define TIMER_BASE 0xcf000000
#define TIMER_SIZE 0x1000
#define TIMER_IRQ 3
#define TIMER_ID 0x00            /* ro, TIMER_ID_VALUE */
#define TIMER_CTRL 0x04          /* rw */
#define TIMER_PERIOD 0x08        /* rw, microseconds */
#define TIMER_STATUS 0x0c        /* bit 0 EXPIRED, write 1 to clear */
#define TIMER_TICKS 0x10         /* ro, expirations since enable */
#define TIMER_COUNT 0x14         /* ro, microseconds until expiry */
#define TIMER_OVERRUN 0x18       /* read to clear: periods that ended while EXPIRED was set */
#define TIMER_ID_VALUE 0x544d4c56
#define TIMER_CTRL_ENABLE 1
#define TIMER_CTRL_IRQ_ENABLE 2
#define TIMER_CTRL_PERIODIC 4
#define TIMER_STATUS_EXPIRED 1

/* vmlab's hot-plug controller: 32-bit registers. Slot n is window n */
#define HOTPLUG_BASE 0xcf001000
#define HOTPLUG_SIZE 0x1000
#define HOTPLUG_IRQ 1
#define HOTPLUG_ID 0x00          /* ro, HOTPLUG_ID_VALUE */
#define HOTPLUG_VERSION 0x04     /* ro */
#define HOTPLUG_SLOTS 0x08       /* ro, number of slots */
#define HOTPLUG_EVENT_LOW 0x10   /* read to clear: slots 0..31 that changed */
#define HOTPLUG_EVENT_HIGH 0x14  /* read to clear: slots 32..63 */
#define HOTPLUG_SLOT 0x18        /* rw, the slot that the registers below speak of */
#define HOTPLUG_STATE 0x1c       /* ro, HOTPLUG_EMPTY and so on */
#define HOTPLUG_BASE_LOW 0x20    /* ro */
#define HOTPLUG_BASE_HIGH 0x24   /* ro */
#define HOTPLUG_WINDOW_SIZE 0x28 /* ro, bytes */
#define HOTPLUG_LINE 0x2c        /* ro, HOTPLUG_NO_LINE: none */
#define HOTPLUG_KIND 0x30        /* ro, virtio device id; 0: a user's own device */
#define HOTPLUG_ANSWER 0x34      /* wo, HOTPLUG_ANSWER_SEEN and so on */
#define HOTPLUG_PRESENT 0x100    /* ro, a byte for each slot: 0x0f present, 0 empty */
#define HOTPLUG_ID_VALUE 0x50484c56
#define HOTPLUG_SLOTS_MAX 64
#define HOTPLUG_NO_LINE 0xffffffff
#define HOTPLUG_EMPTY 0
#define HOTPLUG_ADDED 1
#define HOTPLUG_SEEN 2
#define HOTPLUG_DRIVER_OK 3
#define HOTPLUG_FAILED 4
#define HOTPLUG_REMOVING 5
#define HOTPLUG_ANSWER_SEEN 1
#define HOTPLUG_ANSWER_DRIVER_OK 2
#define HOTPLUG_ANSWER_FAILED 3
#define HOTPLUG_ANSWER_RELEASED 4

/* Windows for virtio-mmio and users' devices. Where nothing else tells, window n has line
 * DEVICE_FIRST_IRQ + n. Lines from LEVEL_FIRST_IRQ up are levels, and shared; those below are edges. */
#define DEVICE_BASE 0xd0000000
#define DEVICE_SIZE 0x1000
#define DEVICE_COUNT 11
#define DEVICE_FIRST_IRQ 5
#define LEVEL_FIRST_IRQ 16
#define VIRTIO_MMIO_MAGIC 0x74726976
#define HOLE_ADDRESS 0xcffff000  /* nothing is ever here: shows what a hole reads as */

/* Interrupt controllers */
#define IOAPIC_BASE 0xfec00000
#define IOAPIC_SIZE 0x1000
#define IOAPIC_PINS 24
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
