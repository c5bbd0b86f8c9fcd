"""kdebug: look inside a running pod that has no shell."""

__version__ = "0.1.0.dev0"
