"""What crosses the wire between client and agent: stdlib only, no input or output of its own."""
