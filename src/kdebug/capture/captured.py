"""A file that a bundle holds, whole or a piece of it, as the manifest lists it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any, Optional

from kdebug.capture.container import BadBundle, Member
from kdebug.errors import ProtocolViolation
from kdebug.protocol import codec
from kdebug.protocol.files import Entry, FileStat


@dataclass(frozen=True)
class CapturedFile:
    members: list[Member]
    offset: int
    """In the file, of the first byte that was taken."""
    size_bytes: int
    """Of the whole file as it would be read from here: redaction may have changed the length of what was
    taken, and what was not taken counts as it was."""
    stat: Optional[FileStat]
    """What the target said of it."""

    @property
    def end(self) -> int:
        return self.offset + sum(member.size_bytes for member in self.members)

    @property
    def to_its_end(self) -> bool:
        return self.end >= self.size_bytes


def captured_file(row: dict[str, Any], members: list[Member]) -> CapturedFile:
    """From one row of the manifest's files. Raises `BadBundle`."""
    held = sum(member.size_bytes for member in members)
    try:
        offset = max(0, int(row.get("offset") or 0))
        taken = int(row.get("taken_bytes", held))
        left = max(0, int(row.get("size_bytes", offset + taken)) - offset - taken)
        stat = None
        if isinstance(row.get("stat"), dict):
            entry: Entry = codec.from_plain(Entry, row["stat"])
            stat = FileStat(row["path"], entry, str(row.get("resolved") or row["path"]))
        else:
            stat = FileStat(
                row["path"], Entry(posixpath.basename(row["path"]), "file", size_bytes=held), row["path"]
            )
    except (TypeError, ValueError, ProtocolViolation):
        raise BadBundle("the manifest's list of files is damaged") from None
    return CapturedFile(members, offset, offset + held + left, stat)
