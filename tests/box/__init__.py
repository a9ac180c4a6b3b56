"""KVM in a box: tests that need a KVM which runs Linux, on hosts that have none.

QEMU emulates a machine whose CPU has AMD's SVM. A Debian kernel in it has a real /dev/kvm, and pytest runs
there with the same interpreter, packages and tests, at the same paths, as on the host:

- `image` builds what the machine boots into: one initramfs, no root and no disk needed,
- `machine` starts QEMU and talks with what runs inside,
- `inside` is that: it runs the tests it is asked for and sends their reports over the `line`,
- `plugin` asks for each test that is marked `linux_kvm`, and hands pytest its reports.

The first such test boots the box, the end of the session ends it.
"""
