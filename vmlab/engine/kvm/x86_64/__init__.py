"""What KVM is told of a PC's CPU."""
