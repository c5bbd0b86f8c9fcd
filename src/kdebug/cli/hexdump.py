"""hexdump -C: bytes in hexadecimal and ASCII, repeated lines as one `*`."""

from __future__ import annotations

import base64
from typing import Any

import click

from kdebug.cli.console import Document, emit, write_bytes
from kdebug.cli.contents import MAX_DOCUMENT, chunks, count, shared_letters
from kdebug.cli.files import file_callback
from kdebug.cli.table import exact
from kdebug.cli.verb import Common
from kdebug.errors import UsageError
from kdebug.target import Target

WIDTH = 16
_DOTS = bytes(byte if 32 <= byte < 127 else 46 for byte in range(256))


def line(offset: int, data: bytes) -> str:
    left, right = data[:8].hex(" "), data[8:].hex(" ")
    return f"{offset:08x}  {left:<23}  {right:<23}  |{data.translate(_DOTS).decode('ascii')}|\n"


class Dump:
    """Pieces in, lines out."""

    def __init__(self, offset: int, squeeze: bool) -> None:
        self._offset, self._squeeze = offset, squeeze
        self._rest = b""
        self._last = b""
        self._starred = False

    def feed(self, data: bytes) -> str:
        data = self._rest + data
        whole = len(data) // WIDTH * WIDTH
        self._rest = data[whole:]
        return "".join(self._line(data[start : start + WIDTH]) for start in range(0, whole, WIDTH))

    def hole(self, size: int) -> str:
        """Zeros that nobody sent: as many lines as are needed to show that they repeat."""
        shown = min(size, 3 * WIDTH - len(self._rest)) if self._squeeze else size
        text = self.feed(bytes(shown))
        skipped = (size - shown) // WIDTH * WIDTH
        self._offset += skipped
        return text + self.feed(bytes(size - shown - skipped))

    def _line(self, data: bytes) -> str:
        offset = self._offset
        self._offset += len(data)
        if self._squeeze and data == self._last and len(data) == WIDTH:
            starred, self._starred = self._starred, True
            return "" if starred else "*\n"
        self._last, self._starred = data, False
        return line(offset, data)

    def end(self) -> str:
        text = self._line(self._rest) if self._rest else ""
        return f"{text}{self._offset:08x}\n" if self._offset or text else ""


async def hexdump(
    target: Target, path: str, common: Common, n: str, c: str, skip: str, verbose_lines: bool
) -> int:
    offset = int(skip, 16) if skip.lower().startswith("0x") else count(skip)[1]
    left = count(n)[1] if n else None
    document = common.output in ("json", "yaml")
    dump, kept, size = Dump(offset, not verbose_lines), [], 0
    async for chunk in chunks(target, path, offset):
        data = chunk.data if left is None else chunk.data[: left - size]
        size += len(data)
        hole = chunk.hole_bytes if left is None else min(chunk.hole_bytes, left - size)
        size += hole
        if document:
            if size > MAX_DOCUMENT:
                raise UsageError(
                    f"a document holds at most {MAX_DOCUMENT} bytes", next_step="bound it with -n"
                )
            kept.append(data + bytes(hole))
        else:
            write_bytes((dump.feed(data) + dump.hole(hole)).encode())
        if left is not None and size >= left:
            break
    if not document:
        write_bytes(dump.end().encode())
        return 0
    answer: dict[str, Any] = {}
    exact(answer, "path", path)
    answer |= {"offset": offset, "size_bytes": size}
    answer["data_base64"] = base64.b64encode(b"".join(kept)).decode("ascii")
    return emit(Document(answer, lambda wide: []), common.output)


def _command() -> click.Command:
    decorated: Any = shared_letters(has_bytes=False)(file_callback("hexdump", hexdump))
    options = (
        click.option("-C", "canonical", is_flag=True, hidden=True, expose_value=False),
        click.option(
            "-s", "--skip", "skip", default="0", metavar="OFFSET", help="from here (0x.. or k, M, G)"
        ),
        click.option("-v", "--no-squeezing", "verbose_lines", is_flag=True, help="repeated lines, too"),
    )
    for option in reversed(options):
        decorated = option(decorated)
    decorated = click.argument("location", metavar="TARGET:/PATH")(decorated)
    text = "Show the bytes of a file, as hexdump -C does. -n takes a length, or a namespace as in kubectl."
    return click.command("hexdump", help=text, context_settings={"help_option_names": ["-h", "--help"]})(
        decorated
    )


COMMANDS: dict[str, click.Command] = {"hexdump": _command()}
