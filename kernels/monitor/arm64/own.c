/* What only the arm64 machine has: its fixed devices, its clock, its exceptions and registers. */
#include "own.h"

#include "command.h"
#include "date.h"
#include "hotplug.h"
#include "machine.h"

#define NOT_MAPPED 0x123456789000
#define PRIMECELL_ID 0xff0
#define PRIMECELL_FIRST 0x0d

void own_regions(void)
{
    region(GICV3_DISTRIBUTOR, GIC_END - GICV3_DISTRIBUTOR, "interrupt controller");
}

static bool is_primecell(uintptr_t base)
{
    return (read32(base + PRIMECELL_ID) & 0xff) == PRIMECELL_FIRST;
}

void own_devices(void)
{
    present("0x0a001000  irq 32", "serial, a pl011", is_primecell(SERIAL_BASE));
    present("0x0a002000  irq 33", "clock, a pl031", is_primecell(RTC_BASE));
    present("0x0a003000  irq 34", "gpio, a pl061", is_primecell(GPIO_BASE));
    present("0x09000000 irq 160", "teaching timer", read32(TIMER_BASE + TIMER_ID) == TIMER_ID_VALUE);
    present("0x09001000 irq 161", "hot-plug controller", hotplug_present());
    bool third = SYSTEM_READ(id_aa64pfr0_el1) >> 24 & 15;
    print("0x%08x         interrupt controller, gic version %u\n",
          third ? GICV3_DISTRIBUTOR : GICV2_DISTRIBUTOR, third ? 3 : 2);
}

COMMAND(clock, "", "show the date and time")
{
    uint32_t now = read32(RTC_BASE);
    if (!is_primecell(RTC_BASE)) {
        print("clock: this machine has none\n");
        return;
    }
    print_date(now);
}

COMMAND(fault, "page|undefined|breakpoint", "raise a CPU exception")
{
    const char *kind = argc > 1 ? argv[1] : "";
    if (text_equal(kind, "page"))
        read64(NOT_MAPPED);
    else if (text_equal(kind, "undefined"))
        __asm__ volatile("udf #0");
    else if (text_equal(kind, "breakpoint"))
        __asm__ volatile("brk #0");
    else
        print("fault: page, undefined or breakpoint?\n");
}

COMMAND(regs, "", "show the control registers")
{
    uint64_t sp;
    __asm__("mov %0, sp" : "=r"(sp));
    print("sctlr 0x%08lx  ttbr0 0x%08lx  tcr  0x%09lx\n", SYSTEM_READ(sctlr_el1),
          SYSTEM_READ(ttbr0_el1), SYSTEM_READ(tcr_el1));
    print("mair  0x%08lx  vbar  0x%08lx  daif 0x%03lx\n", SYSTEM_READ(mair_el1),
          SYSTEM_READ(vbar_el1), SYSTEM_READ(daif));
    print("sp    0x%08lx  mpidr 0x%08lx\n", sp, SYSTEM_READ(mpidr_el1));
}
