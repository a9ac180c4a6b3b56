#include "interrupt.h"
#include "platform.h"
#include "serial.h"

#define RBR (COM1_PORT + 0)
#define IER (COM1_PORT + 1)
#define FCR (COM1_PORT + 2)
#define LCR (COM1_PORT + 3)
#define MCR (COM1_PORT + 4)
#define LSR (COM1_PORT + 5)

#define IER_RECEIVED 0x01
#define FCR_ENABLE 0x01
#define LCR_8N1 0x03
#define MCR_DTR_RTS_OUT2 0x0b
#define LSR_DATA_READY 0x01

#define CTRL_C 3

/* A pasted script fits; its length divides 2^32, so the indices may wrap. */
#define RING 4096

static uint8_t ring[RING];
static volatile uint32_t head, tail;

/* Drains until the line has dropped: an edge-triggered pin sees the next byte only then. A byte that
 * finds the ring full is lost, as it would be in the UART. */
static void receive(__attribute__((unused)) unsigned pin)
{
    while (in8(LSR) & LSR_DATA_READY) {
        uint8_t byte = in8(RBR);
        if (head - tail < RING) {
            ring[head % RING] = byte;
            head++;
        }
    }
}

void serial_input_init(void)
{
    receive(COM1_IRQ); /* enabling the FIFO would drop what was typed ahead */
    out8(FCR, FCR_ENABLE);
    out8(LCR, LCR_8N1);
    out8(MCR, MCR_DTR_RTS_OUT2);
    irq_enable(COM1_IRQ, receive);
    out8(IER, IER_RECEIVED);
}

int serial_get(void)
{
    if (head == tail)
        return -1;
    return ring[tail++ % RING];
}

uint8_t serial_wait(void)
{
    interrupts_off();
    while (head == tail)
        sleep_until_interrupt();
    uint8_t byte = serial_get();
    interrupts_on();
    return byte;
}

bool serial_interrupted(void)
{
    for (uint32_t at = tail; at != head; at++) {
        if (ring[at % RING] == CTRL_C) {
            tail = at + 1;
            return true;
        }
    }
    return false;
}
