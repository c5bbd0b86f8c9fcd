"""Into the target."""

from __future__ import annotations

from collections.abc import Sequence

from kdebug.errors import Failed
from kdebug.target.target import Target
from kdebug.target.transfer import TransferOptions, TransferReport, Watcher


class Upload:
    """One run. The report is filled as it goes."""

    def __init__(
        self, target: Target, options: TransferOptions, progress: Watcher, report: TransferReport
    ) -> None:
        self._target, self._options, self._progress = target, options, progress
        self.report = report

    async def run(self, sources: Sequence[str], destination: str) -> TransferReport:
        raise Failed("this version does not copy into a target")
