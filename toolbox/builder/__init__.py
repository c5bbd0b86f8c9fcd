"""Makes the toolbox image from Debian packages named in a committed lock. Standard library only."""
