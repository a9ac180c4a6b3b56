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

# Hot-plug: the host asks for a slot (Linux: "offline" of its container) whose driver is to let go, or
# has filled one again whose driver did.
drivers=/sys/bus/platform/drivers/virtio-mmio
serve_slot() {
    for node in "/sys$1/firmware_node/"LNRO0005:*; do
        name=${node##*/}
        if [ -e "$drivers/$name" ]; then
            echo "$name" >"$drivers/unbind"
        elif [ -e "/sys/bus/platform/devices/$name" ]; then
            echo "$name" >"$drivers/bind"
        fi
    done
}
uevent 2>/dev/null | while read -r line; do
    case $line in
    DEVPATH=*) path=${line#DEVPATH=} ;;
    EVENT=offline) serve_slot "$path" ;;
    esac
done 2>/dev/null &

# The power button: the first event of its input device.
if [ -e /dev/input/event0 ]; then
    { dd if=/dev/input/event0 bs=24 count=1 >/dev/null 2>&1 && sync && poweroff -f; } &
fi

console=$(cat /sys/class/tty/console/active)
console=${console##* }
setsid sh -c "exec sh </dev/$console >/dev/$console 2>&1"
sync
poweroff -f
