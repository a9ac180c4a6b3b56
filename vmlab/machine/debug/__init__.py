"""Where a machine stops: breakpoints, and what is said of a stop."""
