"""The process boundary: a machine lives in a monitor process; what holds it talks to it by messages."""
