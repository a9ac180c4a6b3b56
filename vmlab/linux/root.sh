# Read by init when the command line, $line, has root=: that file system takes this one's place, and its init goes on.
# As the kernel would understand it: root=/dev/vda, UUID= or LABEL=, rootfstype=, rootflags=, ro (else rw),
# init=. What cannot be done is said, and the small system's shell comes instead.
root='' type='' flags=rw inits='/sbin/init /etc/init /bin/init /bin/sh'
for word in $line; do
    case $word in
    root=*) root=${word#*=} ;;
    rootfstype=*) type="-t ${word#*=}" ;;
    rootflags=*) flags=$flags,${word#*=} ;;
    ro) flags=ro${flags#rw} ;;
    init=*) inits=${word#*=} ;;
    esac
done

# the disk may come while the kernel boots
tries=30
until disk=$(findfs "$root" 2>/dev/null) || { disk=$root && [ -b "$disk" ]; } || [ $tries -eq 0 ]; do
    tries=$((tries - 1))
    usleep 100000
done

# no type is no word
if mount $type -o "$flags" "$disk" /mnt; then
    for init in $inits; do
        # a link may be an absolute one, which leads nowhere from here
        if [ -x "/mnt$init" ] || [ -L "/mnt$init" ]; then
            for place in 'proc proc' 'sysfs sys' 'devtmpfs dev'; do
                mkdir -p "/mnt/${place#* }" 2>/dev/null
                mount -t $place "/mnt/${place#* }"
            done
            # not switch_root: what serves the host's requests goes on in the small system
            cd /mnt && mount -o move . / &&
                exec env -i HOME=/ TERM=linux PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . "$init"
        fi
    done
    echo "root=$root has none of: $inits"
    umount /mnt
fi
echo "root=$root cannot be used; this is the small system"
