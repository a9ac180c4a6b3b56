#include "interrupt.h"

#include "lapic.h"
#include "machine.h"
#include "text.h"

#define IOAPIC_SELECT (IOAPIC_BASE + 0x00)
#define IOAPIC_WINDOW (IOAPIC_BASE + 0x10)
#define IOAPIC_REDIRECTION 0x10
#define IOAPIC_LEVEL 0x8000

#define PAGE_FAULT 14

struct trap_frame {
    uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

extern const char idt_pointer[];

volatile uint32_t irq_counts[IOAPIC_PINS];
static irq_handler handlers[IOAPIC_PINS];
static uint32_t enabled, level;

/* A run that a fault ends has this much more than its vector as its value: none then looks like a success, and
 * the status still fits a byte. */
#define FAULT_VALUE 64

static void fault_end(const struct trap_frame *frame)
{
    fault_print(frame);
    machine_exit(FAULT_VALUE + frame->vector);
}

void (*fault_handler)(const struct trap_frame *frame) = fault_end;

void interrupt_init(void)
{
    out8(PIC1_DATA_PORT, 0xff);
    out8(PIC2_DATA_PORT, 0xff);
    __asm__ volatile("lidt %0" : : "m"(*idt_pointer));
    lapic_write(LAPIC_SVR, LAPIC_ENABLE | SPURIOUS_VECTOR);
    lapic_write(LAPIC_LVT_LINT0, LAPIC_MASKED);
}

static void ioapic_write(unsigned index, uint32_t value)
{
    write32(IOAPIC_SELECT, index);
    write32(IOAPIC_WINDOW, value);
}

static void route(unsigned pin, irq_handler handler, uint32_t trigger)
{
    uint32_t bit = 1u << pin;
    handlers[pin] = handler;
    if (enabled & bit && !(level & bit) == !trigger)
        return;
    enabled |= bit;
    level = trigger ? level | bit : level & ~bit;
    ioapic_write(IOAPIC_REDIRECTION + 2 * pin + 1, lapic_id() << 24);
    ioapic_write(IOAPIC_REDIRECTION + 2 * pin, trigger | (IRQ_VECTOR + pin));
}

void irq_enable(unsigned pin, irq_handler handler)
{
    route(pin, handler, 0);
}

void irq_enable_level(unsigned pin, irq_handler handler)
{
    route(pin, handler, IOAPIC_LEVEL);
}

bool irq_enabled(unsigned pin)
{
    return enabled >> pin & 1;
}

void fault_print(const struct trap_frame *frame)
{
    static const char *const names[] = {
        "divide error", "debug", "nmi", "breakpoint", "overflow", "bound range", "undefined opcode",
        "no coprocessor", "double fault", "coprocessor overrun", "invalid tss",
        "segment not present", "stack fault", "general protection", "page fault",
    };
    bool known = frame->vector < sizeof(names) / sizeof(*names);
    print("fault: %s, vector %lu, error 0x%lx, rip 0x%lx",
          known ? names[frame->vector] : "exception", frame->vector, frame->error, frame->rip);
    if (frame->vector == PAGE_FAULT) {
        uint64_t cr2;
        __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
        print(", cr2 0x%lx", cr2);
    }
    print("\n");
}

/* Called by the entry code. */
void interrupt(const struct trap_frame *frame)
{
    if (frame->vector < IRQ_VECTOR) {
        fault_handler(frame);
    } else if (frame->vector < IRQ_VECTOR + IOAPIC_PINS) {
        unsigned pin = frame->vector - IRQ_VECTOR;
        irq_counts[pin]++;
        if (handlers[pin])
            handlers[pin](pin);
        lapic_write(LAPIC_EOI, 0);
    }
}
