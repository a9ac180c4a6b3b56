/* What only RISC-V's "virt" has: its fixed devices, its clock, its exceptions, registers and firmware. */
#include "own.h"

#include "command.h"
#include "date.h"
#include "hotplug.h"
#include "machine.h"

#define NOT_MAPPED 0x123456789000
#define RTC_TIME_LOW (RTC_BASE + 0)
#define RTC_TIME_HIGH (RTC_BASE + 4) /* of when TIME_LOW was read; nanoseconds */
#define SECOND 1000000000
#define NOBODY 0xffffffff

void own_regions(void)
{
    region(FINISHER_BASE, DEVICE_SIZE, "test finisher");
    region(CLINT_BASE, CLINT_SIZE, "clint, the firmware's");
    region(PLIC_BASE, PLIC_SIZE, "plic");
}

void own_devices(void)
{
    present("0x10000000  irq 10", "serial, a 16550a", probe32(SERIAL_BASE) != NOBODY);
    present("0x00101000  irq 11", "clock, a goldfish rtc", probe32(RTC_TIME_LOW) != NOBODY);
    present("0x00100000", "test finisher", probe32(FINISHER_BASE) != NOBODY);
    present("0x0b000000  irq 40", "teaching timer", probe32(TIMER_BASE + TIMER_ID) == TIMER_ID_VALUE);
    present("0x0b001000  irq 41", "hot-plug controller", hotplug_present());
    print("0x%08x         plic, context %u for this hart\n", PLIC_BASE, 2 * hart() + 1);
}

COMMAND(clock, "", "show the date and time")
{
    uint64_t now = probe32(RTC_TIME_LOW);
    if (now == NOBODY) {
        print("clock: this machine has none\n");
        return;
    }
    print_date((now | (uint64_t)read32(RTC_TIME_HIGH) << 32) / SECOND);
}

COMMAND(fault, "access|undefined|breakpoint", "raise a CPU exception")
{
    const char *kind = argc > 1 ? argv[1] : "";
    if (text_equal(kind, "access"))
        read64(NOT_MAPPED);
    else if (text_equal(kind, "undefined"))
        __asm__ volatile("unimp");
    else if (text_equal(kind, "breakpoint"))
        __asm__ volatile("ebreak");
    else
        print("fault: access, undefined or breakpoint?\n");
}

COMMAND(regs, "", "show the control registers")
{
    uint64_t sp;
    __asm__("mv %0, sp" : "=r"(sp));
    print("sstatus 0x%016lx  sie   0x%03lx  sip  0x%03lx\n", CSR_READ(sstatus), CSR_READ(sie),
          CSR_READ(sip));
    print("stvec   0x%08lx  satp  0x%lx  scounteren 0x%lx\n", CSR_READ(stvec), CSR_READ(satp),
          CSR_READ(scounteren));
    print("sepc    0x%08lx  scause 0x%lx  stval 0x%lx\n", CSR_READ(sepc), CSR_READ(scause),
          CSR_READ(stval));
    print("sp      0x%08lx  hart  %u  time 0x%lx\n", sp, hart(), CSR_READ(time));
}

/* SBI 2.0 chapter 4: what the firmware is, and which extensions it has. */
static void describe_sbi(void)
{
    static const struct {
        uint32_t id;
        const char *name;
    } extensions[] = {
        {SBI_TIME, "time"}, {0x735049, "ipi"}, {0x52464e43, "rfence"}, {SBI_HSM, "hsm"},
        {SBI_SRST, "srst"}, {0x4442434e, "dbcn"}, {0x504d55, "pmu"}, {0x53555350, "susp"},
    };
    uint64_t version = sbi(SBI_BASE, 0, 0, 0, 0).value;
    print("sbi %lu.%lu, implementation %lu version 0x%lx:", version >> 24 & 127, version & 0xffffff,
          sbi(SBI_BASE, 1, 0, 0, 0).value, sbi(SBI_BASE, 2, 0, 0, 0).value);
    for (unsigned n = 0; n < sizeof(extensions) / sizeof(*extensions); n++)
        if (sbi(SBI_BASE, 3, extensions[n].id, 0, 0).value)
            print(" %s", extensions[n].name);
    print("\n");
}

COMMAND(sbi, "[EXT FUNCTION A0 A1 A2]", "call the firmware, or show what it is")
{
    uint64_t extension, function, first, second, third;
    if (argc == 1) {
        describe_sbi();
        return;
    }
    if (!required(argc, argv, 1, "extension", &extension) ||
        !required(argc, argv, 2, "function", &function) ||
        !optional(argc, argv, 3, "argument", 0, &first) ||
        !optional(argc, argv, 4, "argument", 0, &second) ||
        !optional(argc, argv, 5, "argument", 0, &third))
        return;
    struct sbi_answer answer = sbi(extension, function, first, second, third);
    print("sbi: error %s%lu, value 0x%lx\n", answer.error < 0 ? "-" : "",
          answer.error < 0 ? -(uint64_t)answer.error : (uint64_t)answer.error, answer.value);
}
