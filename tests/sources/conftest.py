"""A server on this machine that fails as a test says."""

import os

import pytest
from downloads import MEGA
from fault_server import serve

from gol.sources import download


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_PAUSE", 0.001)
    with serve() as running:
        yield running


@pytest.fixture
def content():
    return os.urandom(3 * MEGA + 17)
