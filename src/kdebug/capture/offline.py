"""A bundle as a backend: every request is answered from what was captured, or `NotCaptured` says that it
was not.

A bundle is anybody's file. Answers go through the same strict codec as an agent's, and what they say is
shown through the same sanitiser.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Optional, TypeVar

from kdebug.capture.answers import FOLDER, Answer
from kdebug.capture.captured import CapturedFile, captured_file
from kdebug.capture.container import MANIFEST_NAME, BadBundle, Member
from kdebug.capture.derived import Tree
from kdebug.capture.questions import page_of, question
from kdebug.capture.reader import BundleReader
from kdebug.errors import AccessDenied, NotCaptured, ProtocolViolation
from kdebug.protocol import codec, search
from kdebug.protocol import requests as ask
from kdebug.protocol.files import FileChunk, Listing
from kdebug.protocol.requests import Request
from kdebug.protocol.system import TargetInfo

R = TypeVar("R")
Asked = TypeVar("Asked", bound=Request[Any])

STEP = "`kdebug bundle ls` lists what it holds"
MAX_PARTS_HELD = 2
"""Unpacked parts of files: 8 MiB each."""
MAX_ANSWERS_HELD = 64
MAX_TIME = 2.0**63


class OfflineBackend:
    """`Backend` over a `BundleReader`, which it closes."""

    def __init__(self, bundle: BundleReader) -> None:
        self.bundle = bundle
        self.manifest = _manifest(bundle)
        self._answers = self._index()
        self._held: OrderedDict[str, Answer] = OrderedDict()
        self._records: dict[int, Any] = {}
        self._parts: OrderedDict[str, bytes] = OrderedDict()
        self.files = self._captured_files()
        """Path in the target -> what was taken of it."""
        stats = {path: file.stat for path, file in self.files.items() if file.stat is not None}
        self.tree = Tree(self._listing, stats)
        self.info = self._target_info()
        self.moment: Optional[float] = None
        """Answer as of this time (Unix); None: as late as there is."""
        self.answered: dict[str, float] = {}
        """A request's name -> when the answer to it was taken that was last given."""

    # What there is

    def _index(self) -> dict[str, list[tuple[float, str]]]:
        """question -> (time, member), earliest first; from the manifest, or from the members themselves
        where a capture did not get to its end."""
        found: dict[str, list[tuple[float, str]]] = {}
        listed = self.manifest.get("answers")
        if isinstance(listed, list):
            for entry in listed:
                try:
                    key, at, name = str(entry["question"]), _time(entry["at"]), str(entry["member"])
                except (KeyError, TypeError, ValueError, OverflowError):
                    raise BadBundle("the manifest's list of answers is damaged") from None
                if name in self.bundle.members:
                    found.setdefault(key, []).append((at, name))
        else:
            for name in self.bundle.members:
                if name.startswith(FOLDER) and name.endswith(".json"):
                    answer = _answer(self.bundle, name)
                    found.setdefault(answer.question, []).append((answer.at, name))
        for times in found.values():
            times.sort()
        return found

    def _captured_files(self) -> dict[str, CapturedFile]:
        found: dict[str, CapturedFile] = {}
        listed = self.manifest.get("files")
        for entry in listed if isinstance(listed, list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("path"), str):
                members = self.bundle.parts(str(entry.get("member") or ""))
                if members:
                    found[entry["path"]] = captured_file(entry, members)
        return found

    def _target_info(self) -> TargetInfo:
        for key, times in self._answers.items():
            if key.startswith('["open"'):
                answer = _answer(self.bundle, times[-1][1])
                if answer.answer is not None:
                    return codec.from_plain(TargetInfo, answer.answer)
        if any(name.startswith("kubernetes/") for name in self.bundle.members):
            raise NotCaptured(
                "the bundle holds nothing of the target itself",
                why="only what Kubernetes told was taken: `kdebug bundle ls` says why",
                next_step="`kdebug describe`, `events` and `logs` show that",
            )
        raise BadBundle(f"{self.bundle.path} does not say what it was taken of", why="it holds no target")

    @property
    def times(self) -> list[float]:
        """Every time at which something was answered, earliest first: the marks of a time slider."""
        return sorted({at for times in self._answers.values() for at, _ in times})

    def times_of(self, request: Request[Any]) -> list[float]:
        """When this was answered, or refused, earliest first; as `moment` each gives that answer."""
        return [at for at, _ in self._answers.get(question(request, self.info.pid), ())]

    def asked(self, kind: type[Asked]) -> Iterator[Asked]:
        """Every request of this kind that was answered, or refused."""
        for key in self._answers:
            if key.startswith(f'["{kind.name}",'):
                try:
                    _, fields = json.loads(key)
                    yield codec.from_plain(kind, fields)
                except (ValueError, RecursionError, ProtocolViolation):
                    raise BadBundle("the manifest's list of answers is damaged") from None

    def longest_series(self) -> list[float]:
        """The times of what was asked most often."""
        return [at for at, _ in max(self._answers.values(), key=len, default=[])]

    # Answers

    async def send(self, request: Request[R]) -> R:
        request.validate()
        if request.mutates:
            raise AccessDenied(f"{request.name} is refused", why="a bundle is evidence: it is only read")
        answer: Any = self._answer(request)
        request.check(answer)
        checked: R = answer
        return checked

    def _answer(self, request: Request[Any]) -> Any:
        if isinstance(request, ask.OpenTarget):
            return self.info
        if isinstance(request, ask.ReadFile):
            return self._read(request.path, request.offset, request.size)
        if isinstance(request, ask.FollowFile):
            return self._read(request.path, request.offset, request.size)
        kept = self._kept(request)
        if kept is None:
            return self._derived(request)
        if kept.answer is None:
            raise kept.problem()
        return page_of(request, self._decoded(kept, request.result))

    def _kept(self, request: Request[Any]) -> Optional[Answer]:
        times = self._until_now(request)
        if not times:
            return None
        at, name = times[-1]
        self.answered[request.name] = at
        return self._load(name)

    def _until_now(self, request: Request[Any]) -> list[tuple[float, str]]:
        """(time, member) of every answer up to the moment; the first one where all are later."""
        times = self._answers.get(question(request, self.info.pid), [])
        index = len(times) if self.moment is None else bisect_right([at for at, _ in times], self.moment)
        return times[: max(1, index)]

    def series(self, request: Request[R], most: int) -> list[tuple[float, R]]:
        """The last `most` answers up to the moment, whole, each with its time; refusals are left out."""
        found: list[tuple[float, R]] = []
        for at, name in self._until_now(request)[-most:]:
            kept = self._load(name)
            if kept.answer is not None:
                found.append((at, self._decoded(kept, request.result)))
        return found

    def _load(self, name: str) -> Answer:
        if name not in self._held:
            self._held[name] = _answer(self.bundle, name)
            while len(self._held) > MAX_ANSWERS_HELD:
                _, old = self._held.popitem(last=False)
                self._records.pop(id(old), None)
        self._held.move_to_end(name)
        return self._held[name]

    def _decoded(self, kept: Answer, result: type) -> Any:
        """As a record; once for all pages of a listing."""
        found = self._records.get(id(kept))
        if found is None:
            found = self._records[id(kept)] = codec.from_plain(result, kept.answer)
        return found

    def _derived(self, request: Request[Any]) -> Any:
        """What follows from something else that was captured."""
        found: Any = None
        if isinstance(request, ask.StatPath) and not ask.is_held(request.path):
            found = self.tree.stat(request.path, request.follow)
        elif isinstance(request, search.ListTable):
            listing = self._listed(request.path)
            found = self.tree.table(request, listing) if listing is not None else None
        elif isinstance(request, ask.ListDir):
            listing = self.tree.listing(request.path)
            found = page_of(request, dataclasses.replace(listing, path=request.path)) if listing else None
        elif isinstance(request, search.Find):
            whole = self.tree.find(request)
            found = page_of(request, whole) if whole is not None else None
        if found is None:
            raise NotCaptured(f"the bundle does not hold {_words(request)}", next_step=STEP)
        return found

    def _listed(self, path: str) -> Optional[Listing]:
        """By its own name, with the refusal that was met; else through links."""
        kept = self._kept(ask.ListDir(path=path))
        if kept is not None and kept.answer is None:
            raise kept.problem()
        return self.tree.listing(path)

    def _listing(self, path: str) -> Optional[Listing]:
        kept = self._kept(ask.ListDir(path=path))
        if kept is None or kept.answer is None:
            return None
        listing: Listing = self._decoded(kept, Listing)
        return listing

    def _read(self, path: str, offset: int, size: int) -> FileChunk:
        plain = path if ask.is_held(path) else posixpath.normpath(path)
        file = self.files.get(plain)
        if file is None and not ask.is_held(path):
            file = self.files.get(self.tree.resolved(path))
        if file is None:
            raise NotCaptured(f"the bundle does not hold the file {path}", next_step=STEP)
        if offset < file.offset or (offset >= file.end and not file.to_its_end):
            raise NotCaptured(
                f"the bundle does not hold this part of {path}",
                why=f"only bytes {file.offset} to {file.end} of {file.size_bytes} were taken",
                next_step=f"`kdebug bundle extract` gives {file.members[0].name}",
            )
        data, begin = b"", file.offset
        for member in file.members:
            end = begin + member.size_bytes
            if begin <= offset + len(data) < end:
                start = offset + len(data) - begin
                data += self._part(member)[start : start + size - len(data)]
            begin = end
        eof = offset + len(data) >= file.size_bytes
        return FileChunk(path, offset, file.size_bytes, eof, 0, 0, 0, "offline", data=data)

    def _part(self, member: Member) -> bytes:
        if member.name not in self._parts:
            self._parts[member.name] = self.bundle.read(member.name)
            while len(self._parts) > MAX_PARTS_HELD:
                self._parts.popitem(last=False)
        return self._parts[member.name]

    async def close(self) -> None:
        self.bundle.close()


def _manifest(bundle: BundleReader) -> dict[str, Any]:
    """The manifest; {} where the capture did not get so far."""
    if MANIFEST_NAME not in bundle.members:
        return {}
    document = bundle.json(MANIFEST_NAME)
    if not isinstance(document, dict):
        raise BadBundle("the manifest is no object")
    return document


def _answer(bundle: BundleReader, name: str) -> Answer:
    document = bundle.json(name)
    try:
        return Answer(
            str(document["question"]), dict(document["request"]), _time(document["at"]),
            document.get("answer"), document.get("error"),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadBundle(f"{name} is no answer") from None


def _time(value: Any) -> float:
    """Raises `ValueError` for what no clock shows: Python's JSON may hold infinity and worse."""
    at = float(value)
    if not abs(at) < MAX_TIME:
        raise ValueError("a time that is none")
    return at


def _words(request: Request[Any]) -> str:
    about = next(
        (str(value) for key, value in vars(request).items() if key in ("path", "pid") and value), ""
    )
    return f"{request.name} {about}".strip()
