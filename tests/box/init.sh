#!/bin/busybox sh
# The first process in the box: mounts, loads KVM, and runs what /box/run says. Then the machine ends.
export PATH=/bin HOME=/root TERM=dumb

/bin/busybox mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /tmp /root
mount -t devpts pts /dev/pts
ln -s /proc/self/fd /dev/fd
mount -t tmpfs shm /dev/shm
ip link set lo up
while read -r name; do
    insmod "/box/$name.ko"
done </box/order

sh /box/run
poweroff -f
