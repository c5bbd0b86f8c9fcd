"""Where the console scripts start: so little that Ctrl-C finds us ready before the verbs are loaded.

Loading them takes a tenth of a second, and an interrupt in it would otherwise end in a traceback.
"""

from __future__ import annotations

import os


def main() -> None:
    """Load the command line and run it; leaves with its exit code."""
    try:
        from kdebug.cli.main import main as run

        run()
    except KeyboardInterrupt:
        from kdebug.cli import console

        os._exit(console.interrupted())


if __name__ == "__main__":
    main()
