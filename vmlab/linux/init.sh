#!/bin/busybox sh
# The first process of a vmlab guest: mounts, loads the virtio modules, serves the host's requests and
# gives the console a shell.
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
elif ls /sys/bus/platform/devices/*virtio?mmio* >/dev/null 2>&1; then
    /lib/vmlab/watch.sh >/dev/null 2>&1 &
fi

read -r line </proc/cmdline
case " $line" in *' root='*) . /lib/vmlab/root.sh ;; esac

# The power button: the first event of its input device.
if [ -e /dev/input/event0 ]; then
    { dd if=/dev/input/event0 bs=24 count=1 >/dev/null 2>&1 && sync && poweroff -f; } &
fi

# What poweroff, halt and reboot ask of the first process. It answers between its own commands, so that none
# may last; and what a shell starts in the background is deaf to Ctrl-C, unlike a daemon.
trap 'sync; poweroff -f' USR1 USR2
trap 'sync; reboot -f' TERM
console=$(cat /sys/class/tty/console/active)
start-stop-daemon -S -b -x /lib/vmlab/console.sh -- "${console##* }"
while :; do
    sleep 1000000 &
    wait $!
done
