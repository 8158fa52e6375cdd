"""The page of `gol serve`: what its server refuses, and what Chromium shows of a photo."""

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import threading
import time

import cv2
import numpy as np
import pycocotools.mask
import pytest
import requests
import torch
from numpy.random import default_rng
from PIL import Image
from rank_processes import free_port
from seeds import fresh_seed

import gol
from gol.cli import main
from gol.errors import UserError
from gol.models.state import load_checkpoint
from gol.results import serve

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
TITLE = "<script>document.title='taken'</script> & co"
CLASS = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(alone, tmp_path_factory):
    """A trained run whose scores are raised to where people look; a few iterations give 0.01."""
    run = tmp_path_factory.mktemp("run")
    shutil.copy(alone / "config.json", run)
    content = load_checkpoint(alone / "model.pth")
    content["state_dict"]["roi_head.bbox_head.fc_cls.bias"] += 1.5
    torch.save(content, run / "model.pth")
    return run


@pytest.fixture(scope="module")
def detector(run):
    return gol.load_detector(run, "cpu")


@pytest.fixture(scope="module")
def url(detector):
    """Of a real server."""
    ready = threading.Event()
    place = serve.listen("127.0.0.1", 0)
    server = serve.build_server(serve.build_app(detector, TITLE), ready.set)
    thread = threading.Thread(target=server.run, args=([place],))
    thread.start()
    assert ready.wait(30)
    yield "http://{}:{}".format(*place.getsockname())
    server.should_exit = True
    thread.join()
    place.close()


@pytest.fixture(scope="module")
def photo(demo_data):
    return min((demo_data / "raw" / "val").iterdir())


def test_the_answer_is_what_gol_predict_writes(url, run, photo, tmp_path):
    command = ["predict", str(run), str(photo), "--out", str(tmp_path), "--score", "0.05"]
    assert main([*command, "--device", "cpu"]) == 0
    wanted = json.loads((tmp_path / "annotations.json").read_text())
    answer = requests.post(f"{url}/detect?name={photo.name}", photo.read_bytes()).json()
    (image,) = wanted["images"]
    del image["picture"]
    assert answer["dataset"] == wanted | {"images": [image | {"file_name": photo.name}]}
    assert wanted["annotations"] and answer["most"] is None
    picture = base64.b64decode(answer["picture"].partition("base64,")[2])
    assert Image.open(io.BytesIO(picture)).size == (96, 96)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8000"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "localhost:9000"}, 200),  # a tunnel's other end
        ({"Host": "[::1]:8000"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),  # another server of this machine
    ],
)
def test_pages_from_elsewhere_get_no_answer(url, headers, status):
    for answer in (
        requests.get(url, headers=headers),
        requests.post(f"{url}/detect", b"", headers=headers),
    ):
        wanted = 422 if status == 200 and answer.request.method == "POST" else status
        assert answer.status_code == wanted, answer.text
        assert "access-control-allow-origin" not in answer.headers
    assert (CLASS in answer.text) is False


def test_others_may_call_this_machine_by_its_full_name(monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda: "Mine.Example.org")
    asked = {"host": "mine.example.org:8000"}
    serve._check_origin(asked, serve._own_names("0.0.0.0"))
    with pytest.raises(serve._Refused, match="`--host NAME` allows a name"):
        serve._check_origin(asked, serve._own_names("127.0.0.1"))


def noise():
    buffer = io.BytesIO()
    Image.fromarray(default_rng(0).integers(0, 256, (96, 96), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width, height):
    """A PNG of a few hundred kilobytes."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def icon():
    """Pillow decodes it to learn its size."""
    place = struct.pack("<HHH4BHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(noise()), 22)
    return place + noise()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", 422, "is not a photo"),
        (b"no photo", 422, "is not a photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "is not a photo"),
        (icon(), 422, "is not a photo"),
        (POSTSCRIPT, 422, "is not a photo"),
        (noise()[:-4000], 422, "cannot read the image"),
        (bomb(20_000, 10_000), 413, "20000 × 10000 pixels; at most 100 million"),
        (bytes(serve.MOST_BYTES + 1), 413, "larger than 64 MB"),
    ],
    ids=["empty", "text", "svg", "icon", "postscript", "truncated", "bomb", "large"],
)
def test_what_is_no_photo_is_one_line(url, content, status, reason):
    chunks = (content[i : i + 2**20] for i in range(0, len(content), 2**20))
    for body in (content, chunks):  # without a stated length, too
        try:
            answer = requests.post(f"{url}/detect?name=%1b../x%0a.jpg", body)
        except requests.ConnectionError:  # the server has hung up on the rest
            assert reason == "larger than 64 MB"
            continue
        detail = answer.json()["detail"]
        assert answer.status_code == status and reason in detail
        assert detail.isprintable() and len(detail.splitlines()) == 1
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1), (1, 101), (3000, 1)])
def test_a_photo_of_any_shape_is_answered(url, size):
    answer = requests.post(f"{url}/detect", bomb(*size))
    if max(size) > 100:
        assert answer.status_code == 422 and "is too narrow: a side may" in answer.json()["detail"]
        return
    assert answer.json()["dataset"]["images"][0]["width"] == size[0]


def test_many_masks_of_a_large_photo_are_the_best(detector, photo, monkeypatch):
    everything = detector.predict(photo, 0)
    monkeypatch.setattr(serve, "_MASK_BYTES", 96 * 96 * 7)
    found = serve._find(detector, photo.read_bytes(), "x", 0.0)
    assert found["most"] == 7
    scores = [entry["score"] for entry in found["dataset"]["annotations"]]
    assert scores == everything.confidence[:7].tolist()
    assert len(detector.predict(photo, 0)) == len(everything) > 7


def test_a_port_in_use_and_a_bad_one_are_one_line(alone, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(alone), "--port", port]) == 2
    said = capsys.readouterr().err
    assert "Address already in use; --port takes another one" in said and said.count("\n") == 1
    assert main(["serve", str(alone), "--host", "192.0.2.1"]) == 2
    assert "192.0.2.1:8000: Cannot assign requested address; --host must" in capsys.readouterr().err
    for host, reason in (("", "''; --host must"), ("é" * 64, "no such name; --host must")):
        with pytest.raises(UserError, match=reason):
            serve.listen(host, 0)
    with pytest.raises(SystemExit):
        main(["serve", str(alone), "--port", "70000"])
    assert "from 0 to 65535" in capsys.readouterr().err


def stalled(port):
    """An upload that does not go on."""
    upload = socket.create_connection(("127.0.0.1", port))
    upload.sendall(b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
    return upload


def test_it_says_where_it_is_and_ends_by_ctrl_c(alone, capsys, monkeypatch):
    """In this process, which the signal reaches as a terminal's would; uploads may stall."""
    monkeypatch.setattr(serve, "_PATIENCE", 1)
    port, answers, uploads = free_port(), [], []

    def visit():
        for _ in range(300):
            try:
                answers.append(requests.get(f"http://localhost:{port}/").status_code)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        stalled(port).close()
        uploads.append(stalled(port))
        assert requests.get(f"http://localhost:{port}/").ok  # they have begun
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=visit)
    thread.start()
    assert main(["serve", str(alone), "--port", str(port), "--device", "cpu"]) == 0
    thread.join()
    uploads[0].close()
    said = capsys.readouterr()
    assert answers == [200] and said.out == f"http://127.0.0.1:{port}/\n" and said.err == ""


@pytest.fixture
def page(url, detector, monkeypatch):
    """The page in Chromium on a phone; whatever it complains of fails the test."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    from playwright.sync_api import sync_playwright

    monkeypatch.setattr(detector, "classes", [CLASS, *detector.classes[1:]])
    wrong = []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.on("console", lambda m: "status of 4" in m.text or wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on(
            "request", lambda r: r.url.startswith((url, "data:", "blob:")) or wrong.append(r.url)
        )
        page.goto(url)
        yield page
        browser.close()
    assert wrong == []


DROP = """([name, bytes]) => {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(bytes)], name));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true}));
}"""
PIXELS = """() => {
  const canvas = document.querySelector("canvas");
  return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def drop(page, name, content):
    page.evaluate(DROP, [name, list(content)])
    page.wait_for_selector("#result:not([hidden]), #message.wrong")
    return page.locator("#message").text_content()


def test_chromium_shows_what_is_dropped_and_moves_the_threshold(page, photo, tmp_path):
    assert page.title().startswith("<script>") and page.locator("#result").is_hidden()
    asked = []
    page.on("request", lambda request: asked.append(request.method))
    with page.expect_response("**/detect*") as answer:
        said = drop(page, "mine.jpg", photo.read_bytes())
    content = answer.value.json()
    dataset = content["dataset"]
    shown = [entry for entry in dataset["annotations"] if entry["score"] >= 0.3]
    assert len(shown) > 1
    assert said.startswith(f"mine.jpg: {len(shown)} object")
    assert page.locator(".box").count() == page.locator("#list li").count() == len(shown)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    plain = base64.b64decode(content["picture"].partition("base64,")[2])
    plain = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    drawn = np.array(page.evaluate(PIXELS)).reshape(96, 96, 4)[:, :, :3]
    masked = np.any([pycocotools.mask.decode(o["segmentation"]) for o in shown], axis=0)
    changed = np.abs(drawn - plain).max(axis=2) > 8  # decoders of JPEG round otherwise
    assert not changed[~masked].any() and changed[masked].mean() > 0.9

    least = shown[len(shown) // 2]["score"]
    page.locator("#threshold").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }",
        least,
    )
    kept = float(page.locator("#threshold").input_value())
    left = [entry for entry in shown if entry["score"] >= kept]
    assert page.locator(".box").count() == len(left) < len(shown)
    with page.expect_download() as downloaded:
        page.click("#download")
    assert downloaded.value.suggested_filename == "mine.json"
    downloaded.value.save_as(tmp_path / "mine.json")
    found = json.loads((tmp_path / "mine.json").read_text())
    assert found == dataset | {"annotations": left}
    assert asked.count("POST") == 1
    page.locator("#threshold").press("End")
    said = page.locator("#message").text_content()
    assert said.startswith("mine.jpg: Nothing scores 1.00 or more. The best is ")
    page.locator("#threshold").press("Home")
    label = page.get_by_role("button", name=re.compile(re.escape(CLASS)))
    if any(entry["category_id"] == 1 for entry in dataset["annotations"]):
        assert label.count()  # a name is a text


@pytest.mark.slow
def test_chromium_says_what_is_wrong_and_takes_the_next_photo(page, photo):
    assert "note.txt is not a photo" in drop(page, "note.txt", b"no photo")
    assert page.locator("#result").is_hidden()
    assert drop(page, "mine.jpg", photo.read_bytes()).startswith("mine.jpg: ")
    assert page.locator("#message.wrong").count() == 0


@pytest.mark.slow
def test_chromium_decodes_any_mask_as_pycocotools_does(page):
    """Run lengths of one character to three, of negative differences too, at two sizes."""
    rng = default_rng(fresh_seed())
    for size in ((1, 1), (7, 5), (90, 61), (20, 900)):
        for share in (0, 0.01, 0.5, 1):
            mask = rng.random(size) < share
            rle = pycocotools.mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            rle = {"size": [*size], "counts": rle["counts"].decode()}
            whole = page.evaluate("([r, w, h]) => columns(r, w, h)", [rle, size[1], size[0]])
            found = np.zeros(size, bool)
            for x, first, end in np.reshape(whole, (-1, 3)).astype(int):
                found[first:end, x] = True
            assert (found == mask).all()
            half = [(side + 1) // 2 for side in size]
            reduced = page.evaluate("([r, w, h]) => columns(r, w, h)", [rle, half[1], half[0]])
            found = np.zeros(half, bool)
            for x, first, end in np.reshape(reduced, (-1, 3)).astype(int):
                found[first:end, x] = True
            y, x = ((np.arange(h) + 0.5) * s / h for h, s in zip(half, size, strict=True))
            assert (found == mask[np.ix_(y.astype(int), x.astype(int))]).all()
