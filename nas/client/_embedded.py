"""The service as a child process of a Python session: started when no address is given, ended with it."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

from searchspaces import ServiceError

_START_SECONDS = 90.0
_END_SECONDS = 15.0
_LINE = "NAS_URL="


class EmbeddedService:
    """A service on a free port of loopback. It ends when its standard input closes, so not even a crash leaves it."""

    def __init__(self, folder: Path | None = None) -> None:
        command = [sys.executable, "-P", "-m", "api", "up", "--port", "0", "--announce", "--watch-parent"]
        command += ["--folder", str(folder)] if folder else []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child; close() closes it
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        try:
            self.url = self._announced()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the service and its workers. Idempotent."""
        process = self._process
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
        for end in (None, process.terminate, process.kill):
            if end:
                end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
                break
        self._log.close()

    def _announced(self) -> str:
        assert self._process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()
        # Goes on reading after the announcement, so that the child never waits for a full pipe.
        threading.Thread(target=_read, args=(self._process.stdout, lines), daemon=True, name="embedded-service").start()
        while True:
            try:
                line = lines.get(timeout=_START_SECONDS)
            except queue.Empty:
                raise ServiceError(
                    f"the embedded service did not start within {_START_SECONDS:.0f} s.", code="NOT_STARTED"
                ) from None
            if line is None:
                raise ServiceError(f"the embedded service did not start: {self._last_words()}", code="NOT_STARTED")
            if line.startswith(_LINE):
                return line.removeprefix(_LINE).strip()

    def _last_words(self) -> str:
        self._process.wait(_END_SECONDS)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with code {self._process.returncode}."


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)
