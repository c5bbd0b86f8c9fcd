"""The last minutes before something happened, bounded in time and in bytes."""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kdebug.capture.answers import Answer
from kdebug.units import rfc3339
from kdebug.watch.reading import Reading

MAX_BYTES = 8 * 1024 * 1024
"""Of answers, unpacked: half an hour of a pod with ten processes, five looks at one with 2,000. Redaction
reads 3 MB/s of them."""
MAX_ROWS = 7200
MAX_NOTES = 200


@dataclass(frozen=True)
class _Packed:
    at: float
    data: bytes
    size: int


class BlackBox:
    """Answers as they came, packed; a row of numbers for each look; what happened meanwhile."""

    def __init__(self, seconds: float, most_bytes: int = MAX_BYTES) -> None:
        self.seconds = seconds
        self._most = most_bytes
        self._answers: deque[_Packed] = deque()
        self._rows: deque[tuple[float, dict[str, Any]]] = deque(maxlen=MAX_ROWS)
        self._notes: deque[tuple[float, str]] = deque(maxlen=MAX_NOTES)
        self.size_bytes = 0
        self.dropped = 0
        """Answers that are younger than the box is long, and went for its bytes."""

    def keep(self, answer: Answer) -> None:
        text = json.dumps(answer.document(), separators=(",", ":")).encode("ascii")
        self._answers.append(_Packed(answer.at, zlib.compress(text, 1), len(text)))
        self.size_bytes += len(text)
        while self._answers and self._answers[0].at < answer.at - self.seconds:
            self.size_bytes -= self._answers.popleft().size
        while self.size_bytes > self._most:
            self.size_bytes -= self._answers.popleft().size
            self.dropped += 1

    def row(self, reading: Reading) -> None:
        self._rows.append((reading.clock, reading.document()))
        while self._rows[0][0] < reading.clock - self.seconds:
            self._rows.popleft()

    def note(self, at: float, text: str) -> None:
        """Something that happened. These stay for longer than the rows do."""
        self._notes.append((at, text))

    def answers(self) -> Iterator[Answer]:
        """Newest first."""
        for packed in reversed(tuple(self._answers)):
            found = json.loads(zlib.decompress(packed.data))
            yield Answer(
                found["question"], found["request"], found["at"], found.get("answer"), found.get("error")
            )

    def document(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "answers_dropped": self.dropped,
            "samples": [row for _, row in self._rows],
            "notes": [{"at": rfc3339(at), "text": text} for at, text in self._notes],
        }
