"""Work on all cores: one thread a core, each calling BLAS for itself."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

_cores: ContextVar[int] = ContextVar("cores", default=os.cpu_count() or 1)

BLOCK = 2**20
"""Numbers that are worked on at a time: temporary arrays of 8 MB stay near the cache."""

PARALLEL = 2**20
"""Numbers from which on work is spread over the cores: below, starting threads costs more."""

CHUNKS = 8
"""Pieces of work a core: enough to share it out evenly, few enough to cost nothing."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class cached_property(functools.cached_property[Result]):
    """That of functools without its lock.

    Until Python 3.12 the lock is one for all instances, so that `map_on_cores` would compute a property
    of many instances on one core after the other.
    """

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the value, computed at the first access."""
        if instance is None:
            return self
        value = instance.__dict__[self.attrname] = self.func(instance)
        return value


def map_on_cores(work: Callable[[Item], Result], items: Iterable[Item], size: int) -> list[Result]:
    """Return ``work`` of every item, in order, on all cores if ``size`` numbers are worth it."""
    items = list(items)
    cores = _cores.get()
    if len(items) == 1 or size < PARALLEL or cores == 1:
        return [work(item) for item in items]
    length = -(-len(items) // (CHUNKS * cores))
    chunks = [items[start : start + length] for start in range(0, len(items), length)]
    pool = ThreadPoolExecutor(cores, initializer=_cores.set, initargs=(cores,))
    with single_threaded_blas(), pool:
        found = pool.map(lambda chunk: [work(item) for item in chunk], chunks)
        return [result for results in found for result in results]


@contextmanager
def at_most(cores: int) -> Iterator[None]:
    """Work on so many cores at most: the others belong to other processes."""
    token = _cores.set(min(cores, _cores.get()))
    try:
        yield
    finally:
        _cores.reset(token)


def own_threads(n_items: int, size: int) -> AbstractContextManager[Any]:
    """Return a context for much work in turn, some of it on all cores by `map_on_cores`.

    There too BLAS keeps to one thread: its own would go on spinning for a while beside ours. So they
    would between small products, where they gain nothing, and lose much if a core is taken. What is
    left for them are few large items.
    """
    if n_items < _cores.get() and size >= PARALLEL:
        return nullcontext()
    return single_threaded_blas()


def blocks(n: int, numbers: int) -> list[slice]:
    """Return slices that cut n things, of so many ``numbers`` each, into blocks."""
    per_block = max(1, BLOCK // max(1, numbers))
    return [slice(start, start + per_block) for start in range(0, max(1, n), per_block)]


def single_threaded_blas() -> AbstractContextManager[Any]:
    """Return a context in which a BLAS call keeps to its thread: many small ones are faster so."""
    context: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return context


@functools.lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # takes milliseconds
