"""The ring of what was before is bounded, whatever comes."""

from __future__ import annotations

from kdebug.capture.answers import Answer
from kdebug.watch.blackbox import BlackBox
from kdebug.watch.reading import Reading


def answer(at: float, size: int = 10) -> Answer:
    return Answer("q", {"request": "cgroup"}, at, {"text": "x" * size})


def test_it_is_bounded_in_time() -> None:
    box = BlackBox(60)
    for at in range(200):
        box.keep(answer(float(at)))
        box.row(Reading(float(at), float(at), values={"rss": float(at)}))
    assert [one.at for one in box.answers()] == [float(at) for at in reversed(range(139, 200))]
    document = box.document()
    assert [row["rss"] for row in document["samples"]] == [float(at) for at in range(139, 200)]
    assert document["answers_dropped"] == 0


def test_it_is_bounded_in_bytes_and_says_so() -> None:
    box = BlackBox(1000, most_bytes=10_000)
    for at in range(100):
        box.keep(answer(float(at), 1000))
        assert box.size_bytes <= 10_000
    kept = [one.at for one in box.answers()]
    assert kept == [float(at) for at in reversed(range(100 - len(kept), 100))] and 5 < len(kept) < 10
    assert box.document()["answers_dropped"] == 100 - len(kept)
    box.keep(answer(100.0, 20_000))
    assert list(box.answers()) == [] and box.size_bytes == 0


def test_answers_come_back_as_they_were() -> None:
    box = BlackBox(10)
    given = Answer("q", {"request": "processes"}, 5.5, error={"kind": "Failed", "what": "\udcff"})
    box.keep(given)
    assert list(box.answers()) == [given]
