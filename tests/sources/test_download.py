"""Downloads against a server that fails in every way that real ones do."""

import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from downloads import MEGA, hidden, sha
from fault_server import serve

from gol.errors import UserError
from gol.sources import download as module
from gol.sources import transfer
from gol.sources.download import Source, fetch


def leftovers(folder):
    """Files that a finished download must not leave."""
    return [p.name for p in folder.iterdir() if ".part" in p.name or p.name.endswith(".tmp")]


@pytest.mark.parametrize("known", ["all", "prefix", "nothing"])
def test_a_file_is_fetched_once(server, content, tmp_path, known):
    facts = {"all": (len(content), sha(content)), "prefix": (None, sha(content)[:8])}
    url = server.add("a/b.bin", content, etag='"1"')
    source = Source((url,), *facts.get(known, (None, None)))
    assert source.name == "b.bin"
    path = fetch(source, tmp_path / "new" / "b.bin")
    assert path.read_bytes() == content and not leftovers(path.parent)
    assert fetch(source, path) == path
    assert len(server.requests) == 1


def test_a_file_that_changed_since_is_noticed_and_left_alone(server, content, tmp_path):
    source = Source((server.add("f", content),), sha256=sha(content))
    path = fetch(source, tmp_path / "f")
    other = os.urandom(len(content))
    path.write_bytes(other)
    with pytest.raises(UserError, match=rf"{path} has the sha256 .*move it away"):
        fetch(source, path)
    assert path.read_bytes() == other and len(server.requests) == 1


@pytest.mark.parametrize(
    "validator", [{"etag": '"v1"'}, {"modified": "Mon, 01 Jan 2024 00:00:00 GMT"}]
)
def test_dropped_connections_are_resumed_where_they_broke(server, content, tmp_path, validator):
    drops = [MEGA, MEGA // 2, MEGA]
    url = server.add("f", content, drops=list(drops), **validator)
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == content
    ranges = [asked for _, asked, _ in server.requests]
    # what did not fill a block may be lost with the connection, no more
    positions = [0] + [int(asked[6:-1]) for asked in ranges[1:]]
    assert ranges[0] is None and positions == sorted(set(positions)) and len(positions) == 4
    assert server.sent < len(content) + 4 * transfer._BLOCK


FETCH = "import sys; from gol.sources.download import *; fetch(Source((sys.argv[1],)), sys.argv[2])"


def test_a_killed_process_is_continued_by_the_next(server, content, tmp_path):
    url = server.add("f", content, etag='"1"', drops=[2 * MEGA], stall=60)
    process = subprocess.Popen([sys.executable, "-c", FETCH, url, str(tmp_path / "f")])
    part = tmp_path / "f.part"
    while not (part.exists() and part.stat().st_size >= 2 * MEGA - transfer._BLOCK):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "f").exists()
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == content
    ((_, asked, sent),) = server.requests  # the first is still stalled
    assert asked == f"bytes={len(content) - sent}-" and sent <= MEGA + 17 + transfer._BLOCK


def test_a_failed_download_is_continued_by_the_next(server, content, tmp_path):
    url = server.add("f", content, etag='"1"', drops=[2 * MEGA] + [0] * 20)
    source = Source((url,), len(content), sha(content))
    with pytest.raises(UserError, match="connection"):
        fetch(source, tmp_path / "f")
    server.files["f"].drops = []
    server.forget()
    assert fetch(source, tmp_path / "f").read_bytes() == content
    assert server.sent <= MEGA + 17 + transfer._BLOCK and len(server.requests) == 1


def test_a_cache_that_others_fill_is_read_only(content, tmp_path):
    (tmp_path / "f").write_bytes(content)
    fetch(Source(("http://127.0.0.1:1/f",), None, sha(content)), tmp_path / "f")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_server_without_ranges_is_asked_for_everything_again(server, content, tmp_path):
    url = server.add("f", content, etag='"1"', ranges=False, drops=[2 * MEGA, MEGA])
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == content
    assert [sent for _, _, sent in server.requests] == [2 * MEGA, MEGA, len(content)]


def test_without_validator_and_hash_nothing_is_continued(server, content, tmp_path):
    url = server.add("f", content, drops=[2 * MEGA])
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == content
    assert [asked for _, asked, _ in server.requests] == [None, None]


@pytest.mark.parametrize("obeys", [True, False])
def test_a_file_that_changes_between_tries_is_not_spliced(server, content, tmp_path, obeys):
    url = server.add("f", content, etag='"1"', drops=[2 * MEGA] + [0] * 20, obeys_if_range=obeys)
    with pytest.raises(UserError):
        fetch(Source((url,)), tmp_path / "f")
    new = os.urandom(len(content))
    server.add("f", new, etag='"2"', obeys_if_range=obeys)
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == new


def test_a_file_that_became_shorter_is_fetched_anew(server, content, tmp_path):
    url = server.add("f", content, etag='"1"', drops=[2 * MEGA] + [0] * 20)
    with pytest.raises(UserError):
        fetch(Source((url,)), tmp_path / "f")
    server.add("f", content[:MEGA], etag='"2"', obeys_if_range=False)
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == content[:MEGA]


def test_a_wrong_file_is_removed_and_the_mirror_asked(server, content, tmp_path):
    wrong = server.add("wrong/f", os.urandom(len(content)))
    source = Source((wrong, server.add("right/f", content)), len(content), sha(content))
    assert fetch(source, tmp_path / "f").read_bytes() == content
    assert [path for path, _, _ in server.requests] == ["wrong/f", "right/f"]


def test_a_file_of_another_size_is_not_even_downloaded(server, content, tmp_path):
    url = server.add("f", content[:-1])
    with pytest.raises(UserError, match=rf"{len(content) - 1} bytes, not {len(content)}"):
        fetch(Source((url,), len(content), sha(content)), tmp_path / "f")
    assert hidden(tmp_path) == [".f.lock"]


def test_only_wrong_files_end_in_one_line_and_leave_nothing(server, content, tmp_path):
    urls = tuple(server.add(f"{i}/f", os.urandom(MEGA)) for i in range(2))
    with pytest.raises(UserError, match=r"cannot download f: .*0/f: .*sha256.*; .*1/f: ") as error:
        fetch(Source(urls, None, sha(content)), tmp_path / "f")
    assert "\n" not in str(error.value) and hidden(tmp_path) == [".f.lock"]


def test_a_mirror_continues_what_the_first_began(server, content, tmp_path):
    first = server.add("1/f", content, etag='"a"', drops=[2 * MEGA] + [0] * 20)
    second = server.add("2/f", content, etag='"b"')
    source = Source((first, second), None, sha(content))
    assert fetch(source, tmp_path / "f").read_bytes() == content
    assert server.requests[-1][1] is not None and server.requests[-1][2] < 2 * MEGA


def test_pieces_of_different_files_are_replaced_by_a_whole_one(server, content, tmp_path):
    bad = server.add("1/f", os.urandom(len(content)), drops=[2 * MEGA] + [0] * 20)
    good = server.add("2/f", content)
    source = Source((bad, good), None, sha(content))
    assert fetch(source, tmp_path / "f").read_bytes() == content
    assert server.requests[-1] == ("2/f", None, len(content))


@pytest.mark.parametrize("status", [404, 403, 410])
def test_what_is_not_there_is_asked_once(server, content, tmp_path, status):
    gone = server.add("1/f", content, statuses=[status])
    source = Source((gone, server.add("2/f", content)))
    assert fetch(source, tmp_path / "f").read_bytes() == content
    assert [path for path, _, _ in server.requests] == ["1/f", "2/f"]
    with pytest.raises(UserError, match=r"HTTP 404"):
        fetch(Source((f"{server.address}/none",)), tmp_path / "none")


def test_a_busy_server_is_asked_again(server, content, tmp_path):
    url = server.add("f", content, statuses=[500, 503, 429])
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == content
    url = server.add("g", content, statuses=[500] * 99)
    with pytest.raises(UserError, match="HTTP 500"):
        fetch(Source((url,)), tmp_path / "g")


def test_a_stalled_connection_is_given_up_and_resumed(server, content, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_TIMEOUT", (2, 0.3))
    url = server.add("f", content, etag='"1"', drops=[2 * MEGA], stall=3)
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == content
    assert server.files["f"].drops == []


def test_a_portal_s_page_is_not_taken_for_the_file(server, tmp_path):
    url = server.add("f.pth", b"<html>please log in</html>", kind="text/html; charset=utf-8")
    with pytest.raises(UserError, match="a web page, not the file"):
        fetch(Source((url,)), tmp_path / "f.pth")
    assert hidden(tmp_path) == [".f.pth.lock"]


def test_without_a_length_the_hash_or_size_must_be_known(server, content, tmp_path):
    url = server.add("f", content, length=False, etag='"1"', drops=[MEGA])
    with pytest.raises(UserError, match="does not say how large"):
        fetch(Source((url,)), tmp_path / "f")
    server.files["f"].drops = [MEGA]
    assert fetch(Source((url,), None, sha(content)), tmp_path / "f").read_bytes() == content
    server.files["f"].drops = [MEGA]
    assert fetch(Source((url,), len(content)), tmp_path / "g").read_bytes() == content


def test_no_server_is_one_short_line(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as gone:
        url = gone.add("f", b"")
    with pytest.raises(UserError, match="Connection refused") as error:
        fetch(Source((url,)), tmp_path / "f")
    assert len(str(error.value)) < 200 and "object at" not in str(error.value)
    with pytest.raises(UserError, match="not the address of a file"):
        fetch(Source(("gopher://x/f",)), tmp_path / "f")


def test_a_file_of_this_machine(content, tmp_path):
    (tmp_path / "own.bin").write_bytes(content)
    for number, url in enumerate([f"file://{tmp_path}/own.bin", str(tmp_path / "own.bin")]):
        source = Source((url,), None, sha(content)[:12])
        assert fetch(source, tmp_path / f"{number}").read_bytes() == content
    with pytest.raises(UserError, match="No such file"):
        fetch(Source((str(tmp_path / "none"),), None, sha(b"")), tmp_path / "f")
    with pytest.raises(UserError, match="not a file"):
        fetch(Source(("file:///dev/zero",), None, sha(b"")), tmp_path / "f")
    for url in ("file:///etc/passwd", "/etc/passwd", "file://localhost/etc/passwd"):
        with pytest.raises(UserError, match="only if its sha256 is published"):
            fetch(Source((url,)), tmp_path / "f")
    assert hidden(tmp_path) == [".0.lock", ".1.lock", ".f.lock", "0", "1"]


def test_two_processes_fetch_a_file_once(server, content, tmp_path):
    begun, go = threading.Event(), threading.Event()

    def gate():
        begun.set()
        go.wait(30)

    url = server.add("f", content, gate=gate)
    command = [sys.executable, "-c", FETCH, url, str(tmp_path / "f")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert begun.wait(60)
    waiting = next(
        line for p in _poll(processes) for line in [p] if "waiting for the process" in line
    )
    go.set()
    assert "f: waiting" in waiting
    assert [p.wait(60) for p in processes] == [0, 0]
    assert (tmp_path / "f").read_bytes() == content and len(server.requests) == 1


def _poll(processes):
    """Lines that either process writes to stderr, as they come."""
    import selectors

    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process.stderr, selectors.EVENT_READ)
        while ready := selector.select(60):
            yield ready[0][0].fileobj.readline()


def test_a_disk_that_is_too_small_is_known_before(server, content, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=len(content) - 1)
    monkeypatch.setattr("gol.files.shutil.disk_usage", lambda _: usage)
    url = server.add("f", content)
    with pytest.raises(UserError, match=r"3\.1 MB are needed, but only 3\.1 MB are free"):
        fetch(Source((url,)), tmp_path / "f")
    assert hidden(tmp_path) == [".f.lock"]


def test_a_body_of_unknown_size_does_not_fill_the_disk(server, content, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)

    def left(_):
        come = sum(part.stat().st_size for part in tmp_path.glob("*.part"))
        return usage._replace(free=2 * MEGA - come)

    monkeypatch.setattr("gol.files.shutil.disk_usage", left)
    url = server.add("f", gzip.compress(content), headers=[("Content-Encoding", "gzip")])
    with pytest.raises(UserError, match="are needed, but only"):
        fetch(Source((url,)), tmp_path / "f")
    assert hidden(tmp_path) == [".f.lock"]


def test_a_disk_that_fills_up_keeps_what_came(server, content, tmp_path):
    source = Source((server.add("f", content, etag='"1"'),), None, sha(content))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MEGA, old[1]))
    try:
        with pytest.raises(UserError, match=rf"cannot write {tmp_path / 'f'}: File too large"):
            fetch(source, tmp_path / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "f").exists()
    server.forget()
    assert fetch(source, tmp_path / "f").read_bytes() == content
    assert server.sent <= len(content) - 2 * MEGA + transfer._BLOCK


def test_progress_in_a_log_is_plain_lines(server, content, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gol.progress._LOG", 0)
    url = server.add("f", content)
    fetch(Source((url,)), tmp_path / "f")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 3 and "\r" not in "".join(lines)
    assert lines[-1].startswith("f  3.1 MB of 3.1 MB  100%  ETA 0:00  ")
    assert lines[-1].endswith(" MB/s")


def test_a_published_hash_is_compared_with_the_content_alone(content, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(len(content)))
    found = path.stat()
    note = {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": sha(content)}
    (tmp_path / ".f.sha256.json").write_text(json.dumps(note))  # of an older version, or forged
    with pytest.raises(UserError, match=r"has the sha256 .*move it away"):
        fetch(Source(("http://127.0.0.1:1/f",), None, sha(content)), path)


@pytest.mark.parametrize("url", ["http://x/", "http://x/..", "http://[x/f", "http://x/a%00", ""])
def test_an_address_without_a_file_s_name_is_one_line(url):
    with pytest.raises(UserError, match="must end in a file's name"):
        _ = Source((url,)).name


@pytest.mark.parametrize("digest", ["", "abc", "x" * 64, "0" * 65, 12345678])
def test_what_is_no_digest_is_refused(digest):
    with pytest.raises(UserError, match="sha256 must be 8 to 64 hexadecimal digits"):
        Source.of({"url": "http://x/f", "sha256": digest})
