"""A real HTTP server on 127.0.0.1 that fails in the ways of real ones."""

import re
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class File:
    """What is served at one path; a test may change it between requests.

    drops: after how many bytes of the body each next answer breaks off; None: not at all.
    statuses: answers that come first.
    """

    content: bytes
    etag: str | None = None
    modified: str | None = None
    ranges: bool = True
    length: bool = True
    kind: str = "application/octet-stream"
    drops: list = field(default_factory=list)
    statuses: list = field(default_factory=list)
    obeys_if_range: bool = True
    stall: float = 0  # seconds of silence where it would drop
    gate: Callable | None = None  # called before the body
    headers: list = field(default_factory=list)  # further ones, as they are
    redirect: str | None = None  # to this address
    chunked: int = 0  # how often the content is sent, in chunks without an announced length


class Server:
    """Files by path, and what was asked and sent."""

    def __init__(self, port: int, scheme: str) -> None:
        self.files: dict[str, File] = {}
        self.address = f"{scheme}://127.0.0.1:{port}"
        self.coming = set[int]()  # moments at which requests came that are not answered yet
        self.answered: dict[int, tuple[str, str | None, int]] = {}

    @property
    def requests(self) -> list[tuple[str, str | None, int]]:
        """Path, Range and bytes sent of what was answered, in the order in which it came.

        A client may have all of an answer before the server's thread has written that down.
        """
        end = time.monotonic() + 0.5  # one that stalls is not waited for
        while self.coming and time.monotonic() < end:
            time.sleep(0.005)
        return [request for _, request in sorted(self.answered.items())]

    def forget(self) -> None:
        """Begins to count anew."""
        _ = self.requests
        self.answered.clear()

    def add(self, path: str, content: bytes, **settings) -> str:
        self.files[path] = File(content, **settings)
        return f"{self.address}/{path}"

    @property
    def sent(self) -> int:
        return sum(count for _, _, count in self.requests)


@contextmanager
def serve(certificate=None):
    """Serves over https where ``certificate`` is a file with a key and a certificate."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, came = self.path.lstrip("/").split("?")[0], time.monotonic_ns()
            server.coming.add(came)
            try:
                sent = _answer(self, server.files.get(path))
                server.answered[came] = (path, self.headers.get("Range"), sent)
            finally:
                server.coming.discard(came)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(http.server_address[1], "https" if certificate else "http")
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def _answer(handler: BaseHTTPRequestHandler, file: File | None) -> int:
    handler.close_connection = True
    if file and file.redirect is not None:
        handler.send_response(302)
        handler.send_header("Location", file.redirect)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return 0
    if file is None or file.statuses:
        handler.send_response(file.statuses.pop(0) if file else 404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return 0
    start, total = 0, len(file.content)
    span = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    asked = handler.headers.get("If-Range")
    current = not (asked and file.obeys_if_range) or asked in (file.etag, file.modified)
    if span and file.ranges and current:
        start = int(span[1])
    if start and start >= total:
        handler.send_response(416)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return 0
    body = file.content[start:]
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Type", file.kind)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    if file.chunked:
        handler.send_header("Transfer-Encoding", "chunked")
        body = (b"%x\r\n%b\r\n" % (len(body), body)) * file.chunked + b"0\r\n\r\n"
    elif file.length:
        handler.send_header("Content-Length", str(len(body)))
    named = [("ETag", file.etag), ("Last-Modified", file.modified)]
    for name, value in [*named, *file.headers]:
        if value:
            handler.send_header(name, value)
    handler.end_headers()
    if file.gate:
        file.gate()
    drop = file.drops.pop(0) if file.drops else None
    body = body if drop is None else body[:drop]
    try:
        handler.wfile.write(body)
        handler.wfile.flush()
        if drop is not None:
            time.sleep(file.stall)
    except OSError:  # the client has gone
        return 0
    return len(body)
