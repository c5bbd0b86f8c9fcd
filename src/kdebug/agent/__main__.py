"""The agent's command line: `serve` answers one client on stdin/stdout, `hold` keeps a toolbox alive.

stdin and stdout are moved aside before anything else is loaded, so that a stray print of a library
cannot corrupt the stream; stderr is the log.
"""

import os
import sys


def take_stdio() -> "tuple[int, int]":
    """Move fd 0 and 1 to safety and put /dev/null and stderr in their place."""
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return read_fd, write_fd


def log(line: str) -> None:
    """One line for stderr; never fails, for the reader may be gone."""
    try:
        os.write(2, f"kdebug-agent: {line}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def serve(arguments: "list[str]") -> int:
    """Answer one client until it goes away or falls silent."""
    read_fd, write_fd = take_stdio()
    from kdebug.agent.harden import harden

    for failure in harden():
        log(failure)
    from kdebug.agent import startup

    return startup.serve(read_fd, write_fd, arguments, log)


def hold(arguments: "list[str]") -> int:
    """Keep the container alive for its sessions, within its time to live."""
    from kdebug.agent import hold as hold_module

    return hold_module.main(arguments, log)


def main() -> int:
    """Entry point of the zipapp and of `python -m kdebug.agent`."""
    commands = {"serve": serve, "hold": hold}
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("serve", [])
    if name not in commands:
        log(f"unknown command {name!r}; there are: {', '.join(sorted(commands))}")
        return 2
    return commands[name](arguments)


if __name__ == "__main__":
    code = main()
    # Lane threads may be inside a read that does not end; the interpreter must not wait for them.
    os._exit(code)
