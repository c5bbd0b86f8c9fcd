"""Where the console scripts start: so little that Ctrl-C finds us ready before the verbs are loaded.

Loading them takes a tenth of a second, and an interrupt in it would otherwise end in a traceback.
"""

from __future__ import annotations

import gc
import os

GARBAGE_AFTER = 100_000
"""New objects until garbage is looked for: loading makes that many, none of it garbage, and Python's 700
would have them looked through some hundred times."""


def main() -> None:
    """Load the command line and run it; leaves with its exit code."""
    gc.set_threshold(GARBAGE_AFTER)
    try:
        from kdebug.cli.main import main as run

        run()
    except KeyboardInterrupt:
        from kdebug.cli import console

        os._exit(console.interrupted())


if __name__ == "__main__":
    main()
