/* Exceptions, and lines through the PLIC (RISC-V PLIC specification 1.0). */
#include "interrupt.h"

#include "machine.h"
#include "text.h"

/* Registers: a word a source, a bit a source, and of each context a block. Hart n has the contexts 2n, of its
 * M mode, and 2n + 1, of its S mode. */
#define PLIC_PRIORITY(line) (PLIC_BASE + 4 * (line))
#define PLIC_ENABLE(context) (PLIC_BASE + 0x2000 + 0x80 * (context))
#define PLIC_THRESHOLD(context) (PLIC_BASE + 0x200000 + 0x1000 * (context))
#define PLIC_CLAIM(context) (PLIC_THRESHOLD(context) + 4)

#define CAUSE_INTERRUPT (1ul << 63)
#define CAUSE_TIMER (CAUSE_INTERRUPT | 5)
#define CAUSE_EXTERNAL (CAUSE_INTERRUPT | 9)
#define SIE_TIMER (1u << 5)
#define SIE_EXTERNAL (1u << 9)

/* A run that a fault ends has this much more than its cause as its status: no cause then looks like a
 * success, nor like a small exit=N. */
#define FAULT_STATUS 128

struct trap_frame {
    uint64_t saved[16];
    uint64_t epc, status;
    uint64_t cause, value;
};

extern const char trap_entry[], probe_failed[];

volatile uint32_t irq_counts[LINES];
static irq_handler handlers[LINES];
static bool enabled[LINES];

static unsigned context(void)
{
    return 2 * hart() + 1;
}

static void fault_end(const struct trap_frame *frame)
{
    fault_print(frame);
    machine_exit(FAULT_STATUS + frame->cause);
}

void (*fault_handler)(const struct trap_frame *frame) = fault_end;

void interrupt_init(void)
{
    CSR_WRITE(stvec, trap_entry);
    write32(PLIC_THRESHOLD(context()), 0);
    CSR_WRITE(sie, SIE_EXTERNAL);
}

void irq_enable(unsigned line, irq_handler handler)
{
    handlers[line] = handler;
    if (enabled[line])
        return;
    enabled[line] = true;
    if (line == OWN_TIMER_LINE) {
        CSR_SET(sie, SIE_TIMER);
        return;
    }
    write32(PLIC_PRIORITY(line), 1);
    uintptr_t word = PLIC_ENABLE(context()) + line / 32 * 4;
    write32(word, read32(word) | 1u << line % 32);
}

void irq_enable_level(unsigned line, irq_handler handler)
{
    irq_enable(line, handler);
}

bool irq_enabled(unsigned line)
{
    return enabled[line];
}

void fault_print(const struct trap_frame *frame)
{
    static const char *const names[] = {
        "instruction address misaligned", "instruction access fault", "illegal instruction",
        "breakpoint", "load address misaligned", "load access fault", "store address misaligned",
        "store access fault", "call from user mode", "call from supervisor mode", "exception",
        "exception", "instruction page fault", "load page fault", "exception", "store page fault",
    };
    bool known = frame->cause < sizeof(names) / sizeof(*names);
    print("fault: %s, scause %lu, sepc 0x%lx, stval 0x%lx\n",
          known ? names[frame->cause] : "exception", frame->cause, frame->epc, frame->value);
}

static void served(unsigned line)
{
    irq_counts[line]++;
    if (handlers[line])
        handlers[line](line);
}

/* One claim an interrupt: what else waits raises the next. */
static void external(void)
{
    uintptr_t claim = PLIC_CLAIM(context());
    uint32_t line = read32(claim);
    if (!line)
        return;
    if (line < LINES)
        served(line);
    write32(claim, line);
}

/* Called by the entry code, which goes on at `epc`. */
void trap(struct trap_frame *frame)
{
    if (frame->cause == CAUSE_EXTERNAL)
        external();
    else if (frame->cause == CAUSE_TIMER)
        served(OWN_TIMER_LINE);
    else if (frame->epc == (uintptr_t)probe32)
        frame->epc = (uintptr_t)probe_failed;
    else if (!(frame->cause & CAUSE_INTERRUPT))
        fault_handler(frame);
}
