/* The entropy device, virtio 1.2 §5.4: one queue of buffers to fill. */
#include "command.h"
#include "serial.h"
#include "virtio.h"

#define SHOWN 256 /* bytes; of more only the first line and a sum */

VIRTIO_DRIVER(rng, .kind = VIRTIO_RNG, .queues = 1);

/* As 64-bit numbers, the last one padded with zeroes: quick, and as quickly checked. */
uint64_t transfer_sum(uint32_t length)
{
    uint64_t sum = 0;
    const uint64_t *at = (const uint64_t *)transfer;
    while (length & 7)
        transfer[length++] = 0;
    for (const uint64_t *end = at + length / 8; at != end; at++)
        sum += *at;
    return sum;
}

COMMAND(rng, "BYTES [UNIT]", "get random bytes from the entropy device")
{
    uint64_t bytes, unit;
    if (!required(argc, argv, 1, "bytes", &bytes) || !optional(argc, argv, 2, "unit", 0, &unit))
        return;
    if (!bytes || bytes > sizeof(transfer)) {
        print("rng: 1 to %u bytes\n", (unsigned)sizeof(transfer));
        return;
    }
    struct virtio *device = virtio_find(&rng_driver, unit);
    if (!device)
        return;
    uint32_t got = 0, requests = 0;
    for (uint32_t more; got < bytes; got += more, requests++) {
        struct virtio_part part = {transfer + got, bytes - got, true};
        if (!virtio_request(device, 0, &part, 1, &more))
            return;
        if (!more) {
            print("rng: the device has no more than %u bytes\n", got);
            return;
        }
    }
    uint32_t shown = got <= SHOWN ? got : 16;
    for (uint32_t n = 0; n < shown; n++)
        print("%02x%s", transfer[n], n % 16 == 15 || n == shown - 1 ? "\n" : " ");
    if (shown < got)
        print("rng: %u bytes in %u request%s, sum 0x%016lx\n", got, requests,
              requests == 1 ? "" : "s", transfer_sum(got));
}
