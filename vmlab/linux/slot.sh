#!/bin/busybox sh
# Hot-plug: the host asks for a slot whose driver is to let go, or has filled one again whose driver did.
# Linux with ACPI tells user space of both as "offline" of the slot's container, once per request. The
# hot-plug controller is told when a driver has gone.
[ "$EVENT" = offline ] || exit 0

drivers=/sys/bus/platform/drivers/virtio-mmio
. /lib/vmlab/machine
released=4

for node in "/sys$DEVPATH/firmware_node/"LNRO0005:*; do
    name=${node##*/}
    if [ -e "$drivers/$name" ]; then
        echo "$name" >"$drivers/unbind"
        devmem $((controller + 0x18)) 32 $((0x${name##*:}))
        devmem $((controller + 0x34)) 32 $released
    elif [ -e "/sys/bus/platform/devices/$name" ]; then
        echo "$name" >"$drivers/bind"
    fi
done
