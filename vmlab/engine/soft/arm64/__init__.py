"""What is arm64 in the software engine: CPU, exceptions, interrupt controllers, timers, PSCI."""
