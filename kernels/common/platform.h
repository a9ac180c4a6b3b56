/* The machine these kernels run on: one name per address, line and bit. What is the same on every
 * machine is here, what is one machine's own in its layout.h.
 *
 * Included from C and from assembly, so it holds nothing but #define lines.
 */
#ifndef PLATFORM_H
#define PLATFORM_H

#include "layout.h"

/* vmlab's teaching timer: 32-bit registers */
#define TIMER_SIZE 0x1000
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
#define HOTPLUG_SIZE 0x1000
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

#define VIRTIO_MMIO_MAGIC 0x74726976

#endif
