/* The machine these kernels run on: one name per address, line and bit.
 *
 * Included from C and from assembly, so it holds nothing but #define lines.
 * QEMU's microvm has the same machine without the teaching timer and the device windows.
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

/* Windows for virtio-mmio and users' devices: window n has line DEVICE_FIRST_IRQ + n */
#define DEVICE_BASE 0xd0000000
#define DEVICE_SIZE 0x1000
#define DEVICE_COUNT 11
#define DEVICE_FIRST_IRQ 5
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
