#!/bin/busybox sh
# The first process of a vmlab guest: mounts, loads the virtio modules, serves the host's requests and
# gives the console a shell. When that ends, the machine is switched off.
export PATH=/bin HOME=/root PS1='# ' TERM=linux

# busybox finds its other commands through /proc
/bin/busybox mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts
mount -t devpts pts /dev/pts 2>/dev/null
while read -r name; do
    insmod "/lib/vmlab/$name.ko"
done </lib/vmlab/order

# Hot-plug. With ACPI, each event of the kernel's devices runs slot.sh with the event in its environment.
if [ -e /sys/bus/acpi/devices/LNXSYSTM:00 ]; then
    uevent /lib/vmlab/slot.sh >/dev/null 2>&1 &
elif [ -e /sys/bus/platform/devices/virtio-mmio.0 ]; then
    /lib/vmlab/watch.sh >/dev/null 2>&1 &
fi

read -r line </proc/cmdline
case " $line" in *' root='*) . /lib/vmlab/root.sh ;; esac

# The power button: the first event of its input device.
if [ -e /dev/input/event0 ]; then
    { dd if=/dev/input/event0 bs=24 count=1 >/dev/null 2>&1 && sync && poweroff -f; } &
fi

console=$(cat /sys/class/tty/console/active)
console=${console##* }
# wide, so that no typed command is broken into two lines; one that nobody holds open forgets its size
setsid sh -c "exec </dev/$console >/dev/$console 2>&1; stty columns 200 rows 50; exec sh"
sync
poweroff -f
