/* The floor: what one MMIO write trap costs when a bare C loop around KVM_RUN takes it.
 *
 *   floor CODE COUNT [null|count] [irqchip]
 *
 * CODE is raw 32-bit guest code that is put at 1 MiB and entered there in protected mode, paging off;
 * it writes COUNT times to MMIO. One line is printed: microseconds per trap, the median over runs of
 * CHUNK writes (traps.py takes the same moments), so that a host that was busy for a while is no matter.
 *
 *   null      nothing is done with a write (what "the floor" means)
 *   count     the write goes through a look-up and a function pointer, and is counted
 *   irqchip   with the in-kernel interrupt controllers, as a whole machine has them
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ENTRY 0x100000u
#define RAM (2u << 20)
#define WINDOW 0xd0000000u
#define WINDOW_SIZE 0x1000u
#define PORT_EXIT 0xf4
#define CHUNK 1024
#define CHUNKS 4096

struct device {
    uint64_t base, size;
    void (*write)(struct device *, uint64_t offset, uint32_t value);
    uint64_t writes, bytes;
    uint32_t value;
};

static void keep(struct device *device, uint64_t offset, uint32_t value)
{
    (void)offset;
    device->value = value;
    device->writes++;
    device->bytes += 4;
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int control(int fd, unsigned long request, void *argument, const char *name)
{
    int result = ioctl(fd, request, argument);
    if (result < 0)
        err(1, "%s", name);
    return result;
}
#define CONTROL(fd, request, argument) control(fd, request, (void *)(argument), #request)

static void load(const char *path, uint8_t *at, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, at, room) <= 0)
        err(1, "%s", path);
    close(fd);
}

static void protected_mode(int vcpu)
{
    struct kvm_sregs s;
    CONTROL(vcpu, KVM_GET_SREGS, &s);
    struct kvm_segment data = {
        .base = 0, .limit = 0xffffffff, .selector = 0x18, .type = 3,
        .present = 1, .s = 1, .db = 1, .g = 1,
    };
    struct kvm_segment code = data;
    code.selector = 0x10;
    code.type = 11;
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr0 |= 1;
    CONTROL(vcpu, KVM_SET_SREGS, &s);
    struct kvm_regs r = {.rip = ENTRY, .rflags = 2};
    CONTROL(vcpu, KVM_SET_REGS, &r);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* marks: when writes 1, 1 + CHUNK, 1 + 2 CHUNK ... arrived */
static void report(const uint64_t *marks, uint64_t seen, uint64_t count)
{
    if (seen != count)
        errx(1, "%llu writes arrived, not %llu", (unsigned long long)seen, (unsigned long long)count);
    static uint64_t took[CHUNKS];
    size_t n = (size_t)((count - 1) / CHUNK);
    for (size_t i = 0; i < n; i++)
        took[i] = marks[i + 1] - marks[i];
    qsort(took, n, sizeof *took, ascending);
    double middle = n % 2 ? (double)took[n / 2] : (double)(took[n / 2 - 1] + took[n / 2]) / 2;
    printf("%.4f\n", middle / 1000.0 / CHUNK);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        errx(2, "usage: floor CODE COUNT [null|count] [irqchip]");
    uint64_t count = strtoull(argv[2], NULL, 0);
    if (count <= CHUNK || count > (uint64_t)CHUNK * (CHUNKS - 1))
        errx(2, "COUNT must be more than %d and at most %d", CHUNK, CHUNK * (CHUNKS - 1));
    int counting = argc > 3 && strcmp(argv[3], "count") == 0;

    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        err(1, "/dev/kvm");
    int vm = CONTROL(kvm, KVM_CREATE_VM, 0);
    if (argc > 4) {
        /* Intel's KVM wants a place for the TSS of its real-mode trick; others ignore it. */
        CONTROL(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
        CONTROL(vm, KVM_CREATE_IRQCHIP, 0);
    }
    uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED)
        err(1, "mmap");
    struct kvm_userspace_memory_region slot = {
        .memory_size = RAM, .userspace_addr = (uintptr_t)ram,
    };
    CONTROL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
    load(argv[1], ram + ENTRY, RAM - ENTRY);

    int vcpu = CONTROL(vm, KVM_CREATE_VCPU, 0);
    int size = CONTROL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED)
        err(1, "mmap of the vCPU");
    protected_mode(vcpu);

    struct device device = {.base = WINDOW, .size = WINDOW_SIZE, .write = keep};
    static uint64_t marks[CHUNKS];
    uint64_t seen = 0;
    for (;;) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0 && errno != EINTR && errno != EAGAIN)
            err(1, "KVM_RUN");
        switch (run->exit_reason) {
        case KVM_EXIT_MMIO:
            if (seen++ % CHUNK == 0 && seen <= count)
                marks[seen / CHUNK] = now();
            if (counting && run->mmio.is_write) {
                uint64_t offset = run->mmio.phys_addr - device.base;
                uint32_t value;
                memcpy(&value, run->mmio.data, sizeof value);
                if (offset < device.size)
                    device.write(&device, offset, value);
            }
            break;
        case KVM_EXIT_IO:
            if (run->io.port != PORT_EXIT)
                break;
            report(marks, seen, count);
            return 0;
        case KVM_EXIT_INTR:
            break;
        default:
            errx(1, "exit reason %u after %llu writes", run->exit_reason, (unsigned long long)seen);
        }
    }
}
