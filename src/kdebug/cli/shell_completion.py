"""completion: the script that teaches a shell our verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kdebug.cli.console import write_bytes

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion", help="Print the completion script of a shell; source it from the shell's profile."
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    from kdebug.cli.main import kdebug

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    write_bytes(found(kdebug, {}, "kdebug", "_KDEBUG_COMPLETE").source().encode())
    return 0


COMMANDS: dict[str, click.Command] = {"completion": completion}
