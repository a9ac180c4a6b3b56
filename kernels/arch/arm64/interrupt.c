/* Exceptions, and lines through the GIC, of version 2 or 3 (Arm IHI 0048, IHI 0069). */
#include "interrupt.h"

#include "machine.h"
#include "text.h"

#define SPI_FIRST 32
#define PRIORITY 0xa0
#define SYNCHRONOUS 4 /* vector of this level's own exceptions */

/* The distributor; one bit a line, or two, or a byte. */
#define GICD_CTLR 0x000
#define GICD_IGROUPR 0x080
#define GICD_ISENABLER 0x100
#define GICD_IPRIORITYR 0x400
#define GICD_ITARGETSR 0x800
#define GICD_ICFGR 0xc00
#define GICD_IROUTER 0x6000
#define CTLR_ENABLE 0x1
#define CTLR_ENABLE_V3 0x12 /* affinity routing, group 1 */
/* The CPU interface of version 2. */
#define GICC_CTLR 0x00
#define GICC_PMR 0x04
#define GICC_IAR 0x0c
#define GICC_EOIR 0x10
/* A redistributor of version 3: its own page, and the private lines' behind it. */
#define GICR_SIZE 0x20000
#define GICR_TYPER 0x008
#define GICR_TYPER_LAST 0x10
#define GICR_WAKER 0x014
#define GICR_WAKER_SLEEP 0x2
#define GICR_WAKER_ASLEEP 0x4
#define GICR_PRIVATE 0x10000

#define ICC_SRE_EL1 S3_0_C12_C12_5
#define ICC_PMR_EL1 S3_0_C4_C6_0
#define ICC_IGRPEN1_EL1 S3_0_C12_C12_7
#define ICC_IAR1_EL1 S3_0_C12_C12_0
#define ICC_EOIR1_EL1 S3_0_C12_C12_1

struct trap_frame {
    uint64_t x[19], lr;
    uint64_t elr, spsr;
    uint64_t esr, far;
    uint64_t vector;
};

extern const char vectors[];

volatile uint32_t irq_counts[LINES];
static irq_handler handlers[LINES];
static bool enabled[LINES], level[LINES];
static uintptr_t distributor, own_lines; /* of lines below SPI_FIRST */
static unsigned version;

/* A run that a fault ends has this much more than its exception class as its value: none then looks like a
 * success, and the status still fits a byte. */
#define FAULT_VALUE 64

static void fault_end(const struct trap_frame *frame)
{
    fault_print(frame);
    machine_exit(FAULT_VALUE + (frame->esr >> 26));
}

void (*fault_handler)(const struct trap_frame *frame) = fault_end;

/* The registers of version 3 are there when its CPU interface is. */
static void version3_init(void)
{
    version = 3;
    distributor = GICV3_DISTRIBUTOR;
    SYSTEM_WRITE(ICC_SRE_EL1, 1);
    write32(distributor + GICD_CTLR, CTLR_ENABLE_V3);
    uint64_t id = SYSTEM_READ(mpidr_el1) & 0xffffff;
    uintptr_t frame = GICV3_DISTRIBUTOR;
    do
        frame -= GICR_SIZE;
    while (read64(frame + GICR_TYPER) >> 32 != id && frame > GIC_END - 0x1000000);
    write32(frame + GICR_WAKER, read32(frame + GICR_WAKER) & ~GICR_WAKER_SLEEP);
    while (read32(frame + GICR_WAKER) & GICR_WAKER_ASLEEP)
        ;
    own_lines = frame + GICR_PRIVATE;
    write32(own_lines + GICD_IGROUPR, 0xffffffff);
    SYSTEM_WRITE(ICC_PMR_EL1, 0xff);
    SYSTEM_WRITE(ICC_IGRPEN1_EL1, 1);
}

static void version2_init(void)
{
    version = 2;
    distributor = own_lines = GICV2_DISTRIBUTOR;
    write32(distributor + GICD_CTLR, CTLR_ENABLE);
    write32(GICV2_CPU + GICC_PMR, 0xff);
    write32(GICV2_CPU + GICC_CTLR, CTLR_ENABLE);
}

void interrupt_init(void)
{
    SYSTEM_WRITE(vbar_el1, vectors);
    if (SYSTEM_READ(id_aa64pfr0_el1) >> 24 & 15)
        version3_init();
    else
        version2_init();
}

static void route(unsigned line, irq_handler handler, bool is_level)
{
    handlers[line] = handler;
    if (enabled[line] && level[line] == is_level)
        return;
    level[line] = is_level;
    uintptr_t base = line < SPI_FIRST ? own_lines : distributor;
    uintptr_t config = base + GICD_ICFGR + line / 16 * 4;
    uint32_t edge = 2u << line % 16 * 2;
    write32(config, is_level ? read32(config) & ~edge : read32(config) | edge);
    write8(base + GICD_IPRIORITYR + line, PRIORITY);
    if (line >= SPI_FIRST && version == 2)
        write8(base + GICD_ITARGETSR + line, read8(base + GICD_ITARGETSR));
    if (version == 3) {
        uintptr_t group = base + GICD_IGROUPR + line / 32 * 4;
        write32(group, read32(group) | 1u << line % 32);
        if (line >= SPI_FIRST)
            write64(base + GICD_IROUTER + 8 * line, SYSTEM_READ(mpidr_el1) & 0xff00ffffff);
    }
    enabled[line] = true;
    write32(base + GICD_ISENABLER + line / 32 * 4, 1u << line % 32);
}

void irq_enable(unsigned line, irq_handler handler)
{
    route(line, handler, false);
}

void irq_enable_level(unsigned line, irq_handler handler)
{
    route(line, handler, true);
}

bool irq_enabled(unsigned line)
{
    return enabled[line];
}

static const char *fault_name(const struct trap_frame *frame)
{
    if (frame->vector != SYNCHRONOUS)
        return "unexpected exception";
    switch (frame->esr >> 26 & 63) {
    case 0x00:
        return "undefined instruction";
    case 0x0e:
        return "illegal execution state";
    case 0x15:
        return "supervisor call";
    case 0x21:
        return "instruction abort";
    case 0x22:
        return "pc alignment";
    case 0x25:
        return "data abort";
    case 0x26:
        return "sp alignment";
    case 0x3c:
        return "breakpoint";
    default:
        return "exception";
    }
}

void fault_print(const struct trap_frame *frame)
{
    print("fault: %s, esr 0x%08lx, elr 0x%lx", fault_name(frame), frame->esr, frame->elr);
    unsigned class = frame->esr >> 26 & 63;
    if (class == 0x21 || class == 0x22 || class == 0x25)
        print(", far 0x%lx", frame->far);
    print("\n");
}

/* Both are called by the entry code. */
void exception(const struct trap_frame *frame)
{
    fault_handler(frame);
}

void interrupt(__attribute__((unused)) const struct trap_frame *frame)
{
    uint32_t taken = version == 3 ? SYSTEM_READ(ICC_IAR1_EL1) : read32(GICV2_CPU + GICC_IAR);
    unsigned line = taken & 0x3ff;
    if (line < LINES) {
        irq_counts[line]++;
        if (handlers[line])
            handlers[line](line);
    }
    if (line >= 1020)
        return;
    if (version == 3)
        SYSTEM_WRITE(ICC_EOIR1_EL1, taken);
    else
        write32(GICV2_CPU + GICC_EOIR, taken);
}
