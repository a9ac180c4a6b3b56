"""A machine put together: configuration, board, devices, engine, states."""
