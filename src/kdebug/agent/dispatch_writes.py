"""Handlers of transfers and changes: loaded at the first of them (see `dispatch`)."""

from __future__ import annotations

import threading

from kdebug.agent.dispatch import handles
from kdebug.agent.session import Session
from kdebug.protocol.transfer import DigestRange, RangeDigest


@handles(DigestRange)
def _digest(session: Session, request: DigestRange, cancelled: threading.Event) -> RangeDigest:
    return session.open_files.digest(session.root(), request, cancelled)
