"""Processes that end together: with their block, or with this process.

All are started in one process group. Its leader is a keeper that waits on a pipe from this process: when
this process ends, however it ends (``kill -9`` included), the pipe closes, and the keeper ends the group
and removes its folder. POSIX only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

KEEPER = """
import os, shutil, signal, sys
sys.stdin.read()
group = os.getpgrp()
if os.fork():
    signal.pause()
os.setpgid(0, 0)
os.killpg(group, signal.SIGKILL)
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class Processes:
    """A context in which to start processes.

    Parameters
    ----------
    folder : Path
        For the output of every process, in a file of its own.
    environment : mapping
        The environment of all.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        self.keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", KEEPER, str(self.folder)],
            stdin=subprocess.PIPE,
            process_group=0,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Nobody else gets the id of the group while its leader is not waited for.
        with suppress(ProcessLookupError):
            os.killpg(self.keeper.pid, signal.SIGKILL)
        for process in (*self.running.values(), self.keeper):
            process.wait()
        if self.keeper.stdin is not None:
            self.keeper.stdin.close()

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a process."""
        with self._log(name).open("wb") as output:
            self.running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                process_group=self.keeper.pid,
            )

    def ended(self) -> list[str]:
        """Return the names of those that run no longer."""
        everybody = {**self.running, "keeper": self.keeper}
        return [name for name, process in everybody.items() if process.poll() is not None]

    def tail(self, name: str, lines: int = 30) -> str:
        """Return the last lines that a process has written."""
        log = self._log(name)
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[-lines:])

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"
