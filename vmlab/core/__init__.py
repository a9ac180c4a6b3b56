"""What every machine is made of: memory, buses, lines, devices, counters, a clock."""
