/* The RISC-V machine "virt", QEMU's and vmlab's: its addresses and lines. A line's number is its source at the
 * PLIC; 0, which is none there, stands for each hart's own timer. */
#ifndef LAYOUT_H
#define LAYOUT_H

/* Memory */
#define RAM_BASE 0x80000000
#define KERNEL_BASE 0x80200000   /* where the images are linked */
#define MAPPED_END 0x1000000000  /* paging is off: physical addresses, and RAM and devices lie below 64 GiB */

/* The serial line, a 16550A */
#define SERIAL_BASE 0x10000000
#define SERIAL_IRQ 10
#define SERIAL_NAME "serial"
/* The clock, a goldfish RTC, and the test finisher, whose one register ends the run */
#define RTC_BASE 0x00101000
#define RTC_IRQ 11
#define FINISHER_BASE 0x00100000
#define FINISHER_PASS 0x5555
#define FINISHER_FAIL 0x3333     /* with a code in bits 31 to 16 */

/* vmlab's teaching timer, and its hot-plug controller, where QEMU's machine has nothing */
#define TIMER_BASE 0x0b000000
#define TIMER_IRQ 40
#define HOTPLUG_BASE 0x0b001000
#define HOTPLUG_IRQ 41

/* Windows for virtio-mmio and users' devices. Where nothing else tells, window n has line
 * DEVICE_FIRST_IRQ + n. The PLIC makes no difference between edges and levels. */
#define DEVICE_BASE 0x10001000
#define DEVICE_SIZE 0x1000
#define DEVICE_COUNT 8
#define DEVICE_FIRST_IRQ 1
#define LEVEL_FIRST_IRQ 1024
#define HOLE_ADDRESS 0x0bfff000  /* nothing is ever here: shows what a hole reads as */

/* The interrupt controllers: the CLINT is the firmware's */
#define CLINT_BASE 0x02000000
#define CLINT_SIZE 0x10000
#define PLIC_BASE 0x0c000000
#define PLIC_SIZE 0x600000
#define LINES 1024

/* Of the time CSR, and the line that stands for the timer */
#define TICK_HZ 10000000
#define OWN_TIMER_LINE 0

#endif
