#!/bin/busybox sh
# Hot-plug and the power button for kernels without ACPI: nothing tells them, so the controller is asked five times a second
# which slots have changed. The drivers' devices are numbered as the slots are, where the command line names
# them; where a device tree does they are called by their addresses.
drivers=/sys/bus/platform/drivers/virtio-mmio
. /lib/vmlab/machine
empty=0 added=1 removing=5 released=4

while usleep 200000; do
    [ $(($(devmem $((controller + 0x38)) 32))) -eq 0 ] || { sync && poweroff -f; }
    events=$(devmem $((controller + 0x10)) 32)
    slot=0
    while [ $((events >> slot)) -ne 0 ]; do
        name=virtio-mmio.$slot
        for first in $windows; do
            [ -e /sys/bus/platform/devices/$name ] || name=$(printf %x.virtio_mmio $((first + 4096 * slot)))
        done
        if [ $((events >> slot & 1)) -eq 1 ]; then
            devmem $((controller + 0x18)) 32 $slot
            state=$(($(devmem $((controller + 0x1c)) 32)))
            if [ -e $drivers/$name ] && [ $state -eq $removing -o $state -eq $empty ]; then
                echo $name >$drivers/unbind
                devmem $((controller + 0x34)) 32 $released
            elif [ $state -eq $added ]; then
                echo $name >$drivers/bind
            fi
        fi
        slot=$((slot + 1))
    done
done
