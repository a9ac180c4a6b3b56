"""What only a PC has."""
