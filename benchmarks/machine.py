"""What the machine can do at best: products of matrices, and reading memory."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may use."""


@dataclass(frozen=True)
class Machine:
    """What a machine can do, as measured.

    Attributes
    ----------
    date : str
        When it was measured, UTC.
    processor : str
        The name that the operating system gives it.
    cores : int
        Cores that this process may use.
    blas : str
        The BLAS libraries of numpy and scipy, with versions and kernels.
    dgemm_one, dgemm_all : float
        GFLOP/s of the product of square matrices of order 1536 in float64: one thread; and one product
        a core at the same time, each with a BLAS of one thread.
    sgemm_one, sgemm_all : float
        The same in float32.
    read_one, read_all : float
        GB/s (10^9 bytes) at which memory is read: one thread; and all cores.
    """

    date: str
    processor: str
    cores: int
    blas: str
    dgemm_one: float
    dgemm_all: float
    sgemm_one: float
    sgemm_all: float
    read_one: float
    read_all: float

    def __str__(self) -> str:
        return (
            f"{self.date}, {self.processor}, {self.cores} cores, {self.blas}; 1 thread / all cores: "
            f"dgemm {self.dgemm_one:.0f} / {self.dgemm_all:.0f} GFLOP/s, "
            f"sgemm {self.sgemm_one:.0f} / {self.sgemm_all:.0f} GFLOP/s, "
            f"read {self.read_one:.1f} / {self.read_all:.1f} GB/s"
        )


def machine(*, rounds: int = 5, megabytes: int = 512) -> Machine:
    """Measure what this machine can do, in a few seconds.

    Parameters
    ----------
    rounds : int
        The best of so many is taken, as others may be at work.
    megabytes : int
        What is read in all for the bandwidth; it must be several times the last cache.

    Returns
    -------
    Machine
    """
    libraries = sorted(
        {
            f"{info['internal_api']} {info['version']} ({info.get('architecture', 'unknown')})"
            for info in threadpool_info()
            if info["user_api"] == "blas" and "numpy" in info["filepath"] + info["prefix"]
        }
        or {str(info["internal_api"]) for info in threadpool_info() if info["user_api"] == "blas"}
    )
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        processor=_processor(),
        cores=CORES,
        blas=", ".join(libraries),
        dgemm_one=_gflops(np.float64, 1, rounds),
        dgemm_all=_gflops(np.float64, CORES, rounds),
        sgemm_one=_gflops(np.float32, 1, rounds),
        sgemm_all=_gflops(np.float32, CORES, rounds),
        read_one=_gigabytes(1, rounds, megabytes),
        read_all=_gigabytes(CORES, rounds, megabytes),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gflops(dtype: type[np.floating[Any]], threads: int, rounds: int, order: int = 1536) -> float:
    a = np.ones((order, order), dtype=dtype)
    results = [np.empty_like(a) for _ in range(threads)]
    best = _best_seconds(lambda n: np.matmul(a, a, out=results[n]), threads, rounds)
    return 2e-9 * threads * order**3 / best


def _gigabytes(threads: int, rounds: int, megabytes: int) -> float:
    pieces = np.array_split(np.ones(megabytes * 10**6 // 8), threads)
    best = _best_seconds(lambda n: pieces[n].dot(pieces[n]), threads, rounds)
    return 1e-9 * sum(piece.nbytes for piece in pieces) / best


def _best_seconds(work: Callable[[int], object], threads: int, rounds: int) -> float:
    """Return the least time that ``work`` of 0, 1, ... takes, each in a thread of its own."""
    times = []
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds + 1):  # the first starts threads and touches memory: never the best
            began = time.perf_counter()
            list(pool.map(work, range(threads)))
            times.append(time.perf_counter() - began)
    return min(times)


def peak_memory() -> float:
    """Return the peak of the memory of this process, GiB; nothing of that of its parent, on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20
    lines = status.read_text(encoding="utf-8").splitlines()
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return peak / 2**20
