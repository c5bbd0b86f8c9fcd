"""The terminal UI over `Target` and `Cluster`, as `open` hands them out."""
