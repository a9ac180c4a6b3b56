#include "interrupt.h"
#include "serial.h"
#include "uart.h"

#define CTRL_C 3

/* A pasted script fits; its length divides 2^32, so the indices may wrap. */
#define RING 4096

static uint8_t ring[RING];
static volatile uint32_t head, tail;

/* Drains until the line has dropped: an edge-triggered line sees the next byte only then. A byte that
 * finds the ring full is lost, as it would be in the UART. */
static void receive(__attribute__((unused)) unsigned line)
{
    while (uart_received()) {
        uint8_t byte = uart_take();
        if (head - tail < RING) {
            ring[head % RING] = byte;
            head++;
        }
    }
}

void serial_input_init(void)
{
    receive(SERIAL_IRQ); /* enabling the FIFO may drop what was typed ahead */
    uart_prepare();
    irq_enable(SERIAL_IRQ, receive);
    uart_listen();
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
