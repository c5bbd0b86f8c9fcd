"""Entry point of `kdebug` and `kubectl kdebug`.

Verbs are loaded when they are used: `--help` reads the table below and imports none of them.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from kdebug import __version__
from kdebug.cli import console
from kdebug.errors import EXIT_USAGE, KdebugError, UsageError

VERBS = {
    "attach": ("attach", "open the terminal UI on a target; without one, pick a pod"),
    "ps": ("processes", "list the target's processes"),
    "proc": ("processes", "show one process in full"),
    "top": ("processes", "watch the processes that use most"),
    "env": ("processes", "show a process' environment, secrets masked"),
    "limits": ("processes", "show resource limits and what is used of them"),
    "fds": ("processes", "list open descriptors and what they lead to"),
    "maps": ("processes", "list memory mappings"),
    "ls": ("listing", "list a directory in the target, or deleted files that are still open"),
    "tree": ("listing", "draw a directory and everything below it"),
    "head": ("tail", "write the beginning of a file"),
    "tail": ("tail", "write the end of a file, and follow it through rotation"),
    "hexdump": ("hexdump", "show the bytes of a file"),
    "find": ("find", "search a tree by name, type, size, age, owner"),
    "stat": ("files", "show what the target's file system says of a path"),
    "cat": ("files", "write a file of the target to stdout, byte for byte"),
    "cp": ("copy", "copy files and directories out of a target or into it"),
    "edit": ("change", "edit a file of the target, and put it back if it was changed"),
    "rm": ("change", "remove files of the target"),
    "mkdir": ("change", "make directories in the target"),
    "chmod": ("change", "change modes in the target"),
    "grep": ("grep", "print the lines of the target's files that match a pattern"),
    "du": ("usage", "sum what directories take, or name the largest"),
    "df": ("usage", "show how full the target's file systems are"),
    "checksum": ("checksum", "print SHA-256 sums of the target's files"),
    "mounts": ("system", "list the target's mounts"),
    "net": ("network", "list sockets with their owners, interfaces, routes, resolver"),
    "logs": ("cluster", "show the logs of every container of a pod"),
    "events": ("cluster", "list a pod's events"),
    "describe": ("cluster", "what Kubernetes knows of a pod, what changed lately first"),
    "access": ("cluster", "show the access ladder for a target, and prove what can be read"),
    "sessions": ("cluster", "list the toolboxes that remain in pods, or end one"),
    "rbac": ("cluster", "print the Role that kdebug needs"),
    "toolbox": ("cluster", "show how to build and load the toolbox image"),
    "capture": ("capture", "take the evidence of a recipe into one file, redacted"),
    "watch": ("watch", "wait until a condition holds, then capture what led to it"),
    "diff": ("compare", "show what differs between two captures, or a capture and now"),
    "compare": ("compare", "look at all replicas at once and show the odd one out"),
    "open": ("bundle", "open a bundle: the terminal UI, or one screen of text"),
    "bundle": ("bundle", "verify, list, unpack, encrypt or decrypt a bundle"),
    "report": ("report", "write what a bundle tells as one HTML file"),
    "recipe": ("recipe", "list, show or check what captures take"),
    "doctor": ("system", "check what works here and what would fix the rest"),
    "demo": ("attach", "start a practice target and look into it"),
    "completion": ("shell_completion", "print the completion script of a shell"),
    "version": ("system", "print the version"),
}


class LazyGroup(click.Group):
    """Knows every verb's one line; imports a verb's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = importlib.import_module(f"kdebug.cli.{VERBS[name][0]}")
        command: click.Command = module.COMMANDS[name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean {near[0]}?" if near else "see `kdebug --help`"
            raise UsageError(f"there is no verb {args[0]!r}", next_step=hint)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        # click would write an empty line of its own before it hands the interrupt on.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            return console.interrupted()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in VERBS.items()])


HELP = """Look inside a running workload that has no shell.

TARGET is POD, deploy/NAME (also sts, ds, rs, job, svc), local:PID (any process on this machine),
bundle:FILE (a capture) or demo: (a practice target). File verbs take TARGET:/absolute/path. stdout is
data, in the format that -o names; everything else is on stderr.

Exit codes: 0 done, 1 failed or partial, 2 usage, 3 access denied, 4 not found, 5 deadline passed,
6 connection lost.
"""


@click.command(cls=LazyGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="kdebug")
def kdebug() -> None:
    """Only a group; the verbs do the work."""


def main() -> None:
    """Run the command line and leave with its exit code, whatever happens."""
    console.claim_standard_streams()
    # As everywhere else: UTF-8, other bytes as lone surrogates, whatever the locale made of them.
    arguments = [os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv[1:]]
    code = console.finish(run(arguments))
    # Threads may still be inside a system call that does not return (a dead network file system).
    os._exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of one command line. Only a bug in kdebug itself lets anything else through."""
    try:
        result: Any = kdebug.main(args=arguments, prog_name="kdebug", standalone_mode=False)
    except KdebugError as error:
        return console.fail(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help(), err=True)
        return EXIT_USAGE
    except click.ClickException as error:
        return console.fail(_usage_error(error))
    except (KeyboardInterrupt, click.exceptions.Abort):
        return console.interrupted()
    except BrokenPipeError:
        return console.reader_left()
    except OSError as error:
        from kdebug.errors import from_os_error

        return console.fail(from_os_error(error, "writing the output failed"))
    return result if isinstance(result, int) else 0


def _usage_error(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "kdebug"
    return UsageError(error.format_message().rstrip("."), next_step=f"see `{path} --help`")


if __name__ == "__main__":
    main()
