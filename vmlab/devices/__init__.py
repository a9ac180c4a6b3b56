"""One device, one file. `vmlab.catalogue` lists those that can be asked for by name."""
