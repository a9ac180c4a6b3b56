"""What machines with ARM's peripherals have (PrimeCell)."""
