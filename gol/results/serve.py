"""A page on this machine that finds objects in the photo that is dropped on it.

One model answers one request after another. What a photo's detections look like is decided in the
browser, which has them all and shows those above its threshold.
"""

import asyncio
import base64
import errno
import ipaddress
import logging
import math
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import gol
from gol.data.images import PHOTOS, decode_photo, stated_size
from gol.errors import UserError, one_line, shown, visible
from gol.results.photos import Record, jpeg
from gol.results.quoting import html

if TYPE_CHECKING:
    import numpy as np
    import uvicorn
    from fastapi import FastAPI, Request

    from gol.engine.predict import Detector

LEAST_SCORE = 0.05  # what scores less is not looked for, unless the threshold begins lower
MOST_BYTES = 64 << 20  # of a file
MOST_PIXELS = 100_000_000  # of a photo
_MASK_BYTES = 1 << 30  # of all masks of a photo, a byte for each pixel
_PATIENCE = 3  # seconds that a request has to end after Ctrl-C; an upload may stall
_SIDE = 1600  # pixels of the longer side of the picture that the browser shows
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Refused(Exception):
    """A request that is answered by one line; ``status`` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def build_app(
    detector: "Detector", title: str, score: float = 0.3, host: str = "127.0.0.1"
) -> "FastAPI":
    """The page and what it asks: ``GET /``, and ``POST /detect`` with a photo file as the body.

    Args:
        detector: what finds.
        title: whose detector it is.
        score: where the threshold begins, from 0 to 1.
        host: name or address that browsers may know this machine by, besides loopback's.
    """
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse, JSONResponse, Response

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # The slider has hundredths.
    least, turn = math.floor(min(score, LEAST_SCORE) * 100) / 100, asyncio.Lock()
    names = _own_names(host)

    @app.middleware("http")
    async def guard(request: Request, following: Callable) -> Response:
        try:
            _check_origin(request.headers, names)
            response = await following(request)
        except _Refused as error:
            response = JSONResponse({"detail": str(error)}, error.status)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        return response

    @app.get("/")
    async def page() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        content = _page_content(detector, title, score, least)
        text = html("serve.html.j2", {**content, "nonce": nonce})
        return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY.format(nonce)})

    @app.post("/detect")
    async def detect(request: Request, name: str = "photo") -> JSONResponse:
        content = await _body(request)
        async with turn:
            return JSONResponse(await asyncio.to_thread(_find, detector, content, name, least))

    return app


def _page_content(detector: "Detector", title: str, score: float, least: float) -> dict[str, Any]:
    from supervision import ColorPalette

    return {
        "title": title,
        "classes": len(detector.classes),
        "score": score,
        "least": least,
        "megabytes": MOST_BYTES >> 20,
        "colours": " ".join(colour.as_hex() for colour in ColorPalette.DEFAULT.colors),
        "version": gol.__version__,
    }


def _own_names(host: str) -> set[str]:
    """What browsers may call this machine; its full name, which may be slow to find, if asked."""
    names = {"localhost", host.lower(), socket.gethostname().lower()}
    if host not in ("127.0.0.1", "localhost", "::1"):
        names.add(socket.getfqdn().lower())
    return names


def _check_origin(headers: Mapping[str, str], names: set[str]) -> None:
    """Refuses what a page from elsewhere has a browser send.

    Such a page says so in ``Origin``, or has had its own name resolved to this machine, which
    ``Host`` shows.
    """
    asked, origin = headers.get("host", "").lower(), headers.get("origin")
    if (name := _host_name(asked)) not in names and not _is_address(name):
        text = f"the host {visible(asked)!r} is not this server's name; `--host NAME` allows a name"
        raise _Refused(403, text)
    if origin is not None and origin.lower() not in (f"http://{asked}", f"https://{asked}"):
        raise _Refused(403, f"requests of {visible(origin)} are not answered")


def _host_name(asked: str) -> str:
    with suppress(ValueError):  # of brackets that do not match
        return urlsplit(f"//{asked}").hostname or ""
    return ""


def _is_address(name: str) -> bool:
    """Whether a host is named by a number, which nobody can have resolved to another machine."""
    with suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


async def _body(request: "Request") -> bytes:
    """The file that a request brings, not read further than its limit."""
    from starlette.requests import ClientDisconnect

    too_large = _Refused(413, f"the file is larger than {MOST_BYTES >> 20} MB")
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > MOST_BYTES:
        raise too_large
    content = bytearray()
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > MOST_BYTES:
                raise too_large
    except ClientDisconnect as error:
        raise _Refused(400, "the file did not arrive whole") from error
    return bytes(content)


def _find(detector: "Detector", content: bytes, name: str, least: float) -> dict[str, Any]:
    """What is found in a photo, with a picture of it that every browser shows.

    Returns:
        ``dataset``: as ``gol predict`` writes ``annotations.json``; ``picture``: a data URL;
        ``most``: how many detections were kept where there may have been more, else None.
    """
    name = PurePosixPath(visible(name)).name or "photo"
    _check_size(content, name)
    try:
        pixels = decode_photo(content, name, PHOTOS)
        most = max(_MASK_BYTES // (pixels.shape[0] * pixels.shape[1]), 1)
        found = detector.predict(pixels, least, most)
    except UserError as error:
        raise _Refused(422, one_line(error)) from error
    record = Record(detector.classes)
    record.add(name, None, pixels.shape[:2], found)
    picture = base64.b64encode(jpeg(_reduced(pixels))).decode()
    return {
        "dataset": record.dataset(),
        "picture": f"data:image/jpeg;base64,{picture}",
        "most": most if len(found) == most else None,
    }


def _check_size(content: bytes, name: str) -> None:
    """Refuses what is not a photo, or is too large to be decoded."""
    size = stated_size(content)
    if size is None:
        raise _Refused(422, f"{name} is not a photo that can be read: JPEG, PNG, WebP, TIFF …")
    if math.prod(size) > MOST_PIXELS:
        limit = f"at most {MOST_PIXELS // 10**6} million pixels are allowed"
        raise _Refused(413, f"{name} has {size[0]} × {size[1]} pixels; {limit}")


def _reduced(pixels: "np.ndarray") -> "np.ndarray":
    import cv2

    factor = _SIDE / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for the server; port 0 stands for any free one.

    Raises:
        UserError: the port is in use or not allowed, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    own = "--host must be an address of this machine"
    try:
        if not host:  # Python would take it for all addresses
            raise UserError(f"cannot listen on {host!r}; {own}, or 0.0.0.0 for all")
        return socket.create_server((host, port), family=family)
    except (TypeError, UnicodeError) as error:
        raise UserError(f"cannot listen on {shown(host)}: no such name; {own}") from error
    except OSError as error:
        named = isinstance(error, socket.gaierror)  # Python adds the address to the others' text
        reason = error.strerror if named else os.strerror(error.errno)
        hint = own
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            hint = "--port takes another one, or 0 for any that is free"
        raise UserError(f"cannot listen on {address(host, port)}: {reason}; {hint}") from error


def address(host: str, port: int) -> str:
    """Host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def build_server(app: "FastAPI", ready: Callable[[], None]) -> "uvicorn.Server":
    """What answers until Ctrl-C, by its ``run([socket])``; first it calls ``ready``."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # That a request is broken off then is no error.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await super().shutdown(sockets)

    quiet = {"log_level": "warning", "access_log": False, "server_header": False}
    config = uvicorn.Config(app, proxy_headers=False, timeout_graceful_shutdown=_PATIENCE, **quiet)
    return Server(config)
