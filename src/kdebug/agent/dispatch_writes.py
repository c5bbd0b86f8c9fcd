"""Handlers of transfers and changes: loaded at the first of them (see `dispatch`)."""

from __future__ import annotations

from kdebug import threads
from kdebug.agent.dispatch import handles
from kdebug.agent.session import Session
from kdebug.errors import UsageError
from kdebug.probe import change
from kdebug.probe.write import Writes
from kdebug.protocol import writes as ask
from kdebug.protocol.transfer import DigestRange, RangeDigest


def _writes(session: Session) -> Writes:
    with session.lock:
        if session.writes is None:
            session.writes = Writes()
        writes: Writes = session.writes
        return writes


@handles(DigestRange)
def _digest(session: Session, request: DigestRange, cancelled: threads.Event) -> RangeDigest:
    return session.open_files.digest(session.root(), request, cancelled)


@handles(ask.BeginWrite)
def _begin(session: Session, request: ask.BeginWrite, cancelled: threads.Event) -> ask.WriteBegun:
    return _writes(session).begin(session.root(), request, session.proc)


@handles(ask.WriteChunk)
def _write(session: Session, request: ask.WriteChunk, cancelled: threads.Event) -> ask.Written:
    if len(request.data) != request.size:
        raise UsageError(f"{len(request.data)} bytes came where {request.size} were announced")
    return _writes(session).write(request)


@handles(ask.CommitWrite)
def _commit(session: Session, request: ask.CommitWrite, cancelled: threads.Event) -> ask.Changed:
    return _writes(session).commit(request)


@handles(ask.AbortWrite)
def _abort(session: Session, request: ask.AbortWrite, cancelled: threads.Event) -> ask.Changed:
    return _writes(session).abort(request.handle)


@handles(ask.MakeDir)
def _make_dir(session: Session, request: ask.MakeDir, cancelled: threads.Event) -> ask.Changed:
    return change.make_dir(session.root(), request)


@handles(ask.MakeSymlink)
def _make_symlink(session: Session, request: ask.MakeSymlink, cancelled: threads.Event) -> ask.Changed:
    return change.make_symlink(session.root(), request)


@handles(ask.Remove)
def _remove(session: Session, request: ask.Remove, cancelled: threads.Event) -> ask.Changed:
    return change.remove(session.root(), request, session.proc, cancelled)


@handles(ask.Chmod)
def _chmod(session: Session, request: ask.Chmod, cancelled: threads.Event) -> ask.Changed:
    return change.chmod(session.root(), request, session.proc, cancelled)


@handles(ask.SetTimes)
def _set_times(session: Session, request: ask.SetTimes, cancelled: threads.Event) -> ask.Changed:
    return change.set_times(session.root(), request)
