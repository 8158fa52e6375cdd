"""Answers and leftovers of a download that are odd or forged: bounded, refused, never believed."""

import gzip
import json
import os
import shutil
import subprocess
import zlib

import pytest
from downloads import MEGA, hidden, sha
from fault_server import serve

from gol.errors import UserError
from gol.sources import source
from gol.sources.download import Source, fetch


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/f", "http://[x"])
def test_redirects_to_other_schemes_are_refused(server, tmp_path, scheme):
    url = server.add("f", b"", redirect=scheme)
    with pytest.raises(UserError, match="not the address of a file"):
        fetch(Source((url,)), tmp_path / "f")
    assert hidden(tmp_path) == [".f.lock"]


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate")
def test_https_that_leads_to_http_is_taken_only_with_a_hash(server, content, tmp_path, monkeypatch):
    key, plain = tmp_path / "own.pem", server.add("f", content)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", "-"]
    made = subprocess.run(command, capture_output=True, check=True)
    key.write_bytes(key.read_bytes() + made.stdout)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(key))
    with serve(key) as safe:
        urls = safe.add("f", content), safe.add("g", b"", redirect=plain)
        assert fetch(Source((urls[0],)), tmp_path / "f").read_bytes() == content
        with pytest.raises(UserError, match="https leads to http"):
            fetch(Source((urls[1],)), tmp_path / "g")
        facts = (len(content), sha(content))
        assert fetch(Source((urls[1],), *facts), tmp_path / "g").read_bytes() == content


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_part_that_is_a_link_is_not_written_through(server, content, tmp_path, kind):
    url = server.add("f", content, etag='"1"')
    victim, folder = tmp_path / "own", tmp_path / "folder"
    victim.write_bytes(content[:9])
    folder.mkdir()
    (folder / "f.part").symlink_to(victim) if kind == "symbolic" else os.link(
        victim, folder / "f.part"
    )
    about = {"url": url, "validator": '"1"', "total": len(content)}
    (folder / ".f.part.json").write_text(json.dumps(about))
    (folder / "f").symlink_to(tmp_path / "none")
    assert fetch(Source((url,)), folder / "f").read_bytes() == content
    assert victim.read_bytes() == content[:9] and not (tmp_path / "none").exists()
    assert hidden(folder) == [".f.lock", "f"] and not (folder / "f").is_symlink()


@pytest.mark.parametrize("known", ["size", "hash"])
def test_an_endless_body_is_cut_off(server, tmp_path, known, monkeypatch):
    monkeypatch.setattr(source, "_MOST_OTHER", 5 * MEGA)
    url = server.add("f", bytes(MEGA), chunked=50)
    facts = (2 * MEGA, None) if known == "size" else (None, sha(b""))
    words = r"sends more than (2\.1|5\.2) MB"
    with pytest.raises(UserError, match=words):
        fetch(Source((url,), *facts), tmp_path / "f")
    assert hidden(tmp_path) == [".f.lock"] and len(server.requests) <= 1
    url = server.add("g", b"", length=False, headers=[("Content-Length", str(6 * MEGA))])
    with pytest.raises(UserError, match=r"announces 6\.3 MB"):
        fetch(Source((url,), None, facts[1]), tmp_path / "g")


@pytest.mark.parametrize("known", ["all", "nothing"])
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
def test_a_body_that_arrives_compressed_is_unpacked(server, content, tmp_path, coding, known):
    body = zlib.compress(content) if coding == "deflate" else gzip.compress(content)
    url = server.add("f", body, etag='"1"', drops=[MEGA], headers=[("Content-Encoding", coding)])
    facts = (len(content), sha(content)) if known == "all" else (None, None)
    assert fetch(Source((url,), *facts), tmp_path / "f").read_bytes() == content
    assert [asked for _, asked, _ in server.requests] == [None, None]  # never continued


def test_a_compressed_body_is_bounded_once_it_is_unpacked(server, tmp_path):
    bomb = gzip.compress(bytes(20 * MEGA))
    url = server.add("f", bomb, headers=[("Content-Encoding", "gzip")])
    with pytest.raises(UserError, match=r"sends more than 1\.0 MB"):
        fetch(Source((url,), MEGA, sha(b"")), tmp_path / "f")
    with pytest.raises(UserError, match=r"sends more than 16\.8 MB"):  # of no published size
        fetch(Source((url,)), tmp_path / "f")
    for coding, words in (("br", "unknown Content-Encoding"), ("gzip", "contradicts itself")):
        url = server.add("f", b"plain", headers=[("Content-Encoding", coding)])
        with pytest.raises(UserError, match=words):
            fetch(Source((url,)), tmp_path / "f")
    assert hidden(tmp_path) == [".f.lock"]


@pytest.mark.parametrize(
    "length", ["-5", "5, 6", "9" * 5000, "9" * 17, "1e3", "+3", "\xb2", "\xd9\xa3", ""]
)
def test_an_odd_content_length_is_one_line(server, tmp_path, length):
    url = server.add("f", b"abc", length=False, headers=[("Content-Length", length)])
    with pytest.raises(UserError, match=r"how large|contradicts|announces") as error:
        fetch(Source((url,)), tmp_path / "f")
    assert len(str(error.value)) < 200 and hidden(tmp_path) == [".f.lock"]


@pytest.mark.parametrize(
    "header",
    [
        ("ETag", '"\xff\xfe"'),
        ("ETag", '"a\r\n b"'),
        ("ETag", '"' + "x" * 3000 + '"'),
        ("Last-Modified", "\x00"),
        ("Content-Range", "bytes 1048576-9/" + "9" * 5000),
        ("Content-Range", "bytes x-y/z"),
        ("Content-Type", "\xff"),
    ],
)
def test_other_odd_headers_do_no_harm(server, content, tmp_path, header):
    url = server.add("f", content, drops=[2 * MEGA], headers=[header])
    wanted = Source((url,), None, sha(content))
    assert fetch(wanted, tmp_path / "f").read_bytes() == content


SIDECARS = [
    *(
        "[]",
        "3",
        "null",
        '"x"',
        "{}",
        "\xff",
        "[" * 5000,
        '{"url": 1, "validator": 2, "total": "x"}',
    ),
    '{"url": "URL", "validator": 5, "total": 100}',
    '{"url": "URL", "validator": "\\"1\\"", "total": true}',
    '{"url": "URL", "validator": "\\"1\\"", "total": 100}',  # as if it were complete
]


@pytest.mark.parametrize("sidecar", SIDECARS, ids=range(len(SIDECARS)))
def test_notes_of_another_form_or_forged_ones_are_not_believed(server, content, tmp_path, sidecar):
    url = server.add("f", content, etag='"1"')
    (tmp_path / "f.part").write_bytes(b"x" * 100)
    (tmp_path / ".f.part.json").write_text(sidecar.replace("URL", url), encoding="latin-1")
    assert fetch(Source((url,)), tmp_path / "f").read_bytes() == content
