"""Ethernet between machines; it knows no virtio."""
