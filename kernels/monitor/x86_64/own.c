/* What only a PC has: its fixed devices, its clock, its exceptions and registers. */
#include "own.h"

#include "command.h"
#include "hotplug.h"
#include "lapic.h"
#include "machine.h"

#define COM1_LSR (COM1_PORT + 5)
#define RTC_STATUS_B 0x0b
#define RTC_STATUS_D 0x0d
#define RTC_BINARY 0x04
#define IOAPIC_VERSION 1
#define LAPIC_VERSION 0x30
#define NOT_MAPPED 0x123456789000
#define MSR_EFER 0xc0000080

void own_regions(void)
{
    region(IOAPIC_BASE, IOAPIC_SIZE, "ioapic");
    region(LAPIC_BASE, LAPIC_SIZE, "local apic");
}

void own_devices(void)
{
    present("port 0x3f8  irq 4", "com1", in8(COM1_LSR) != 0xff);
    present("port 0x64", "i8042", in8(I8042_COMMAND_PORT) != 0xff);
    out8(RTC_INDEX_PORT, RTC_STATUS_D);
    present("port 0x70", "rtc", in8(RTC_DATA_PORT) != 0xff);
    present("0xcf000000  irq 3", "teaching timer", read32(TIMER_BASE + TIMER_ID) == TIMER_ID_VALUE);
    present("0xcf001000  irq 1", "hot-plug controller", hotplug_present());
    write32(IOAPIC_BASE, IOAPIC_VERSION);
    unsigned last_pin = read32(IOAPIC_BASE + 0x10) >> 16 & 0xff;
    print("0x%08x         ioapic, %u pins\n", IOAPIC_BASE, last_pin + 1);
    print("0x%08x         local apic %u, version 0x%02x\n", LAPIC_BASE, lapic_id(),
          lapic_read(LAPIC_VERSION) & 0xff);
}

static unsigned rtc(unsigned index)
{
    out8(RTC_INDEX_PORT, index);
    return in8(RTC_DATA_PORT);
}

COMMAND(clock, "", "show the date and time")
{
    /* Most significant last, as the registers are numbered; the gaps are alarms and the weekday. */
    static const uint8_t registers[] = {0, 2, 4, 7, 8, 9};
    unsigned now[sizeof(registers)];
    unsigned status = rtc(RTC_STATUS_B);
    if (status == 0xff) {
        print("clock: this machine has none\n");
        return;
    }
    for (unsigned i = 0; i < sizeof(registers); i++) {
        now[i] = rtc(registers[i]);
        if (!(status & RTC_BINARY))
            now[i] = (now[i] >> 4) * 10 + (now[i] & 15);
    }
    print("20%02u-%02u-%02u %02u:%02u:%02u\n", now[5], now[4], now[3], now[2], now[1], now[0]);
}

COMMAND(fault, "divide|page|undefined|triple", "raise a CPU exception; triple is the end")
{
    const char *kind = argc > 1 ? argv[1] : "";
    if (text_equal(kind, "divide"))
        __asm__ volatile("div %0" : : "r"(0), "a"(1), "d"(0));
    else if (text_equal(kind, "page"))
        read64(NOT_MAPPED);
    else if (text_equal(kind, "undefined"))
        __asm__ volatile("ud2");
    else if (text_equal(kind, "triple"))
        machine_triple_fault();
    else
        print("fault: divide, page, undefined or triple?\n");
}

COMMAND(regs, "", "show the control registers")
{
    uint64_t cr0, cr2, cr3, cr4, rsp, rflags;
    uint32_t efer, efer_high;
    __asm__("mov %%cr0, %0" : "=r"(cr0));
    __asm__("mov %%cr2, %0" : "=r"(cr2));
    __asm__("mov %%cr3, %0" : "=r"(cr3));
    __asm__("mov %%cr4, %0" : "=r"(cr4));
    __asm__("mov %%rsp, %0" : "=r"(rsp));
    __asm__("pushfq; pop %0" : "=r"(rflags));
    __asm__("rdmsr" : "=a"(efer), "=d"(efer_high) : "c"(MSR_EFER));
    print("cr0 0x%08lx  cr2    0x%08lx  cr3 0x%08lx\n", cr0, cr2, cr3);
    print("cr4 0x%08lx  efer   0x%08x\n", cr4, efer);
    print("rsp 0x%08lx  rflags 0x%08lx\n", rsp, rflags);
}
