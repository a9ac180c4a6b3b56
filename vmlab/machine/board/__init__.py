"""Boards: an architecture and its fixed devices."""
