#!/bin/busybox sh
# Runs the test programs one after the other, says how each ended, and switches the machine off.
for applet in cat date echo insmod ln mount poweroff sh sleep; do
    /bin/busybox ln -s busybox /bin/$applet
done
export PATH=/bin HOME=/root TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
ln -s /run /var/run
for module in /modules/*.ko; do
    insmod "$module"
done
ip link set lo up
export FLOW_AGENT_BIN=/tests/flow-agent
echo "== uname $(cat /proc/sys/kernel/osrelease)"
for program in @PROGRAMS@; do
    begin=$(date +%s)
    echo "== begin $program"
    /tests/$program --test-threads=1 2>&1
    echo "== end $program $? $(($(date +%s) - begin))"
done
poweroff -f
