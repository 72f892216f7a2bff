"""Published files: one in the cache is used or refused, another fetched whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

import gplconvex as gc
from gplconvex.datasets import fetch
from gplconvex.datasets.fetch import Collection, Hashes, cache_folder, contents

RAW = b"what was measured, " * 1000
PUBLISHED = gzip.compress(RAW, mtime=1)
HASHES = Hashes(hashlib.sha256(RAW).hexdigest(), hashlib.sha256(PUBLISHED).hexdigest())
NOWHERE = Collection(
    "numbers", ("http://one.invalid/", "http://two.invalid/sub/"), {"measured": HASHES}
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, in which nothing is yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GPLCONVEX_DATA", str(folder))
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let no mirror answer; the addresses that were tried."""
    tried: list[str] = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path) -> None:
        assert known_hash == f"sha256:{HASHES.archive}"
        tried.append(url)
        raise ConnectionError(f"no way number {len(tried)}")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return tried


def put(cache: Path, content: bytes) -> Path:
    path = cache / "numbers" / "measured.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# -- what is there -----------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [PUBLISHED, gzip.compress(RAW, 1, mtime=7)])
def test_a_file_that_is_there_is_used_however_it_was_compressed(cache, offline, packed):
    path = put(cache, packed)
    assert contents(NOWHERE, "measured") == RAW
    assert path.read_bytes() == packed
    assert not offline


def test_a_cache_that_cannot_be_written_and_no_pooch_are_enough(cache, monkeypatch):
    path = put(cache, PUBLISHED)
    monkeypatch.setitem(sys.modules, "pooch", None)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert contents(NOWHERE, "measured") == RAW
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize(
    ("damaged", "got"),
    [
        (PUBLISHED[:-20], "end-of-stream"),
        (PUBLISHED[:30] + bytes(10) + PUBLISHED[40:], "damaged"),
        (b"<html>moved</html>", "Not a gzipped file"),
        (gzip.compress(RAW[1:]), hashlib.sha256(RAW[1:]).hexdigest()),
    ],
    ids=["cut off", "overwritten", "no archive", "other contents"],
)
def test_a_damaged_file_is_refused_and_stays(cache, offline, damaged, got):
    path = put(cache, damaged)
    with pytest.raises(gc.InvalidInputError, match=re.escape(repr(str(path)))) as caught:
        contents(NOWHERE, "measured")
    assert got in str(caught.value)
    assert "Delete it" in str(caught.value)
    assert "GPLCONVEX_DATA" in str(caught.value)
    assert path.read_bytes() == damaged
    assert not offline


def test_the_refusal_of_another_file_says_what_was_expected(cache):
    put(cache, gzip.compress(b"another"))
    with pytest.raises(gc.InvalidInputError, match=HASHES.contents):
        contents(NOWHERE, "measured")


# -- what is not there -------------------------------------------------------------------------------


def test_when_no_mirror_answers_the_error_says_all_that_helps(cache, offline):
    with pytest.raises(gc.DownloadError) as caught:
        contents(NOWHERE, "measured")
    path = cache / "numbers" / "measured.gz"
    assert offline == ["http://one.invalid/measured.gz", "http://two.invalid/sub/measured.gz"]
    assert str(caught.value).splitlines() == [
        f"measured.gz is not in {str(path.parent)!r}, and could not be fetched:",
        "  http://one.invalid/measured.gz: no way number 1",
        "  http://two.invalid/sub/measured.gz: no way number 2",
        f"Download it by hand to {str(path)!r}, or set GPLCONVEX_DATA to a folder that holds "
        "numbers/measured.gz, or that can be written",
    ]
    assert caught.value.path == path
    assert isinstance(caught.value, gc.GplConvexError)
    assert isinstance(caught.value, OSError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.path) == (str(caught.value), path)


def test_without_pooch_a_missing_file_names_the_extra(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(gc.MissingDependencyError, match=r"gplconvex\[data\].*one\.invalid"):
        contents(NOWHERE, "measured")


class Mirror:
    """A server on this machine: what it sends for each path, and what it was asked for."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.sends: dict[str, tuple[int, bytes, int]] = {}
        self.asked: list[str] = []

    def collection(self, *answers: tuple[int, bytes, int]) -> Collection:
        """A file with a mirror for each answer: status, body, and by how much its length lies."""
        names = [f"/mirror{number}/" for number in range(len(answers))]
        self.sends = {f"{name}measured.gz": sent for name, sent in zip(names, answers, strict=True)}
        mirrors = tuple(self.address + name for name in names)
        return Collection("numbers", mirrors, {"measured": HASHES})


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            status, body, lie = served.sends[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + lie))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Mirror(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


GOOD = (200, PUBLISHED, 0)
BAD = {
    "not found": (404, b"not here", 0),
    "another file": (200, b"<html>moved</html>", 0),
    "compressed anew": (200, gzip.compress(RAW, 1, mtime=7), 0),
    "cut off": (200, PUBLISHED[:-20], 20),
    "cut off, and lies about it": (200, PUBLISHED[:-20], 0),
}


def test_the_first_mirror_is_enough(cache, mirror):
    collection = mirror.collection(GOOD, GOOD)
    assert contents(collection, "measured") == contents(collection, "measured") == RAW
    assert mirror.asked == ["/mirror0/measured.gz"]
    assert (cache / "numbers" / "measured.gz").read_bytes() == PUBLISHED
    assert files(cache) == ["numbers/measured.gz"]


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_what_a_mirror_does_not_give_the_next_one_does(cache, mirror, answer):
    assert contents(mirror.collection(answer, GOOD), "measured") == RAW
    assert mirror.asked == ["/mirror0/measured.gz", "/mirror1/measured.gz"]
    assert (cache / "numbers" / "measured.gz").read_bytes() == PUBLISHED
    assert files(cache) == ["numbers/measured.gz"]


def test_nothing_is_announced_and_what_others_fetch_is_as_before(cache, mirror, caplog):
    pooch.get_logger().addHandler(caplog.handler)
    try:
        collection = mirror.collection(BAD["not found"], GOOD)
        assert contents(collection, "measured") == RAW
        assert not caplog.records
        pooch.retrieve(f"{collection.mirrors[1]}measured.gz", None, path=cache)
        assert "Downloading data from" in caplog.text
    finally:
        pooch.get_logger().removeHandler(caplog.handler)


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_what_did_not_come_whole_is_never_left_behind(cache, mirror, answer):
    with pytest.raises(gc.DownloadError, match=f"{mirror.address}/mirror1/measured.gz: ."):
        contents(mirror.collection(answer, answer), "measured")
    assert len(mirror.asked) == 2
    assert files(cache) == []


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path, mirror, monkeypatch):
    # Below a file, which stops root as well; permissions would not.
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPLCONVEX_DATA", str(tmp_path / "file"))
    with pytest.raises(gc.DownloadError, match="or that can be written"):
        contents(mirror.collection(GOOD), "measured")
    assert not mirror.asked


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_an_error_that_says_so(cache, mirror):
    cache.mkdir()
    cache.chmod(0o555)
    try:
        with pytest.raises(gc.DownloadError, match="or that can be written"):
            contents(mirror.collection(GOOD), "measured")
    finally:
        cache.chmod(0o755)


# -- where the cache is ------------------------------------------------------------------------------


def test_the_variable_names_the_cache(cache):
    assert cache_folder() == cache


@pytest.mark.parametrize("value", [None, ""])
def test_else_it_is_where_the_system_keeps_caches(monkeypatch, value):
    monkeypatch.delenv("GPLCONVEX_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("GPLCONVEX_DATA", value)
    assert cache_folder() == Path(pooch.os_cache("gplconvex"))
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(gc.MissingDependencyError, match=r"gplconvex\[data\].*GPLCONVEX_DATA"):
        cache_folder()


@pytest.mark.parametrize("collection", [fetch.MNIST, fetch.FASHION_MNIST, fetch.QMNIST])
def test_published_files_have_two_mirrors_and_whole_hashes(collection):
    assert len({*collection.mirrors}) == 2
    assert all(re.fullmatch(r"https?://.*/", mirror) for mirror in collection.mirrors)
    hashes = [digest for pair in collection.files.values() for digest in pair]
    assert len({*hashes}) == 2 * len(collection.files)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
