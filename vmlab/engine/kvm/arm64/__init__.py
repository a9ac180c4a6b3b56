"""What KVM has of its own on arm64."""
