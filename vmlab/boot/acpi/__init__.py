"""ACPI 6.5 for Linux guests: hardware-reduced tables, written from the machine's facts."""
