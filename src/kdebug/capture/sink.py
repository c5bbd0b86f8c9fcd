"""Where a capture writes: the only way into the bundle, through redaction, with an account of it all."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from kdebug.capture.answers import Answer, member_name
from kdebug.capture.container import MANIFEST_NAME, Member
from kdebug.capture.redaction import Redaction
from kdebug.capture.writer import BundleWriter
from kdebug.errors import AccessDenied, ConnectionLost, Failed, KdebugError, NotFound, TargetEnded

SUCCESS, PARTIAL, FAILED = "success", "partial", "failed"
MISSING, DENIED, NOT_TRIED, LEFT_OUT = "missing", "denied", "not-tried", "left-out"
"""left-out: redaction cannot look into it, so that nothing of it is kept."""
MAX_NAME_PARTS = 200
"""Characters of a path in a member's name; longer ones end in a digest."""
_PART = re.compile(r"\.\d{4}$")
_ODD = re.compile(r"[\x00-\x1f\x7f]")


class CannotWrite(Exception):
    """The bundle's own disk refused: nothing else can be kept."""

    def __init__(self, error: KdebugError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Artifact:
    """One thing that was to be taken, and what became of it."""

    step: str
    what: str
    outcome: str = NOT_TRIED
    reason: str = ""
    members: list[Member] = field(default_factory=list)
    seconds: float = 0.0
    size_bytes: int = 0
    """As it stands in the bundle, unpacked."""
    sha256: str = ""
    """Over all of its members in order."""
    counts: bool = True
    """Whether the capture is partial without it; not what a walk met by chance or a condition left out."""

    @property
    def lacks(self) -> bool:
        """Whether something is missing from the capture by this."""
        return self.counts and self.outcome not in (SUCCESS, MISSING, LEFT_OUT)

    def document(self) -> dict[str, Any]:
        names = [member.name for member in self.members]
        row = {k: v for k, v in vars(self).items() if k not in ("members", "counts")}
        return row | {"seconds": round(self.seconds, 4), "members": names}


def outcome_of(error: KdebugError) -> str:
    """What a failure is called in the manifest."""
    if isinstance(error, AccessDenied):
        return DENIED
    if isinstance(error, NotFound) and not isinstance(error, TargetEnded):
        return MISSING
    return FAILED


def is_end(error: KdebugError) -> bool:
    """Whether nothing more can be asked of the target."""
    return isinstance(error, (ConnectionLost, TargetEnded))


class Sink:
    """A `BundleWriter` behind redaction. Raises `CannotWrite` when the disk is full."""

    def __init__(self, writer: BundleWriter, redaction: Redaction) -> None:
        self.writer = writer
        self.redaction = redaction
        self.artifacts: list[Artifact] = []
        self.answers: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.taken_bytes = 0
        """Unpacked, over everything that is in the bundle."""
        self._names: set[str] = set()

    def artifact(self, step: str, what: str) -> Artifact:
        made = Artifact(self.redaction.text(step), self.redaction.text(what))
        self.artifacts.append(made)
        return made

    def answer(self, artifact: Artifact, answer: Answer) -> None:
        """Keep an answer, or the error that came instead."""
        plain = self.redaction.document(answer.document(), artifact.what)
        redacted = Answer(
            plain["question"], plain["request"], answer.at, plain.get("answer"), plain.get("error")
        )
        name = member_name(redacted, self._taken)
        self._add(artifact, name, redacted.document())
        self.answers.append({"question": redacted.question, "at": redacted.at, "member": name})

    def json(self, artifact: Artifact, name: str, document: Any) -> None:
        """Keep a document of Kubernetes."""
        self._add(artifact, name, self.redaction.document(document, name))

    def _add(self, artifact: Artifact, name: str, document: Any) -> None:
        try:
            member = self.writer.add_json(name, document)
        except Failed as error:
            raise CannotWrite(error) from error
        self._names.add(name)
        artifact.members.append(member)
        artifact.sha256 = member.sha256
        self._count(artifact, member.size_bytes)

    def _count(self, artifact: Artifact, size: int) -> None:
        artifact.size_bytes += size
        self.taken_bytes += size

    def _taken(self, name: str) -> bool:
        return name in self._names

    def stream(self, artifact: Artifact, wanted: str) -> Contents:
        """For a file or a log, under a name like `wanted` that is free."""
        return Contents(self, artifact, self._free(plain_name(self.redaction.text(wanted))))

    def _free(self, name: str) -> str:
        """Names of parts (.0000) are left to streams that have some."""
        name += "~1" if _PART.search(name) else ""
        candidate, number = name, 1
        while candidate in self._names:
            number += 1
            candidate = f"{name}~{number}"
        self._names.add(candidate)
        return candidate

    def make_room(self) -> bool:
        """On a full disk the last member makes room for the manifest, which says so. False: none left."""
        member = self.writer.drop_last()
        if member is None:
            return False
        for artifact in self.artifacts:
            if member in artifact.members:
                artifact.members.remove(member)
                artifact.outcome = PARTIAL if artifact.members else FAILED
                artifact.reason = "the disk was full"
                artifact.size_bytes -= member.size_bytes
        held = [one.name for one in self.writer.members]
        self.answers = [row for row in self.answers if row["member"] != member.name]
        for rows in (self.files, self.logs):
            rows[:] = [row for row in rows if any(_part_of(name, row["member"]) for name in held)]
        return True

    def manifest(self, document: dict[str, Any]) -> None:
        """The last member but the index. Its texts are redacted; counts and digests stay."""
        plain = self.redaction.document(document)
        plain |= {
            "artifacts": [self._told(artifact) for artifact in self.artifacts],
            "answers": self.answers,
            "files": self.files,
            "logs": self.logs,
        }
        try:
            self.writer.add_json(MANIFEST_NAME, plain)
        except Failed as error:
            raise CannotWrite(error) from error

    def _told(self, artifact: Artifact) -> dict[str, Any]:
        return artifact.document() | {"reason": self.redaction.text(artifact.reason)}


def _part_of(name: str, stream: str) -> bool:
    return name == stream or (name.startswith(f"{stream}.") and bool(_PART.search(name)))


class Contents:
    """One file or log on its way into the bundle; what came is kept, whatever ends it."""

    def __init__(self, sink: Sink, artifact: Artifact, name: str) -> None:
        self.name = name
        self._sink = sink
        self._artifact = artifact
        self._stream = sink.writer.open_stream(name)
        self._redacting = sink.redaction.stream(name)
        self._digest = hashlib.sha256()
        self.taken_bytes = 0
        """Before redaction."""
        self._closed = False

    def write(self, data: bytes) -> None:
        self.taken_bytes += len(data)
        self._put(self._redacting.feed(data))

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._sink._count(self._artifact, len(data))
        try:
            self._artifact.members += self._stream.write(data)
        except Failed as error:
            self._closed = True
            raise CannotWrite(error) from error

    def close(self) -> None:
        if self._closed:
            return
        self._put(self._redacting.finish())
        self._closed = True
        try:
            self._artifact.members += self._stream.close()
        except Failed as error:
            raise CannotWrite(error) from error
        self._artifact.sha256 = self._digest.hexdigest()
        left_out = getattr(self._redacting, "left_out", "")
        if left_out:
            self._artifact.outcome, self._artifact.reason = LEFT_OUT, str(left_out)


def plain_name(path: str) -> str:
    """A member's name from a path of the target: relative, bounded, and printable."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    parts = [part for part in _ODD.sub("_", text).split("/") if part not in ("", ".", "..")]
    name = "/".join(part[:MAX_NAME_PARTS] for part in parts)
    if name == text.strip("/") and len(name) <= 3 * MAX_NAME_PARTS:
        return name
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{name[: 3 * MAX_NAME_PARTS].rstrip('/')}-{digest}"
