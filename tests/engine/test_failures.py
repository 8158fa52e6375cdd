"""Which of several ranks says what."""

import json

import pytest
import torch.distributed as dist

from gol.engine.failures import Watch
from gol.errors import Interrupted, LostJobError, PeerError, UserError


def rendezvous():
    return dist.HashStore()


def test_a_peer_that_is_gone_is_no_bad_input():
    words = r"gone without a word .*Connection closed by peer"
    with pytest.raises(LostJobError, match=words), Watch(rendezvous(), 0, 1):
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")


def test_the_reason_wins_over_its_consequence():
    shared = rendezvous()
    with pytest.raises(LostJobError), Watch(shared, 0, 1):
        raise RuntimeError("gloo: Connection reset by peer")
    with pytest.raises(UserError, match="the loss is nan") as caught, Watch(shared, 1, 1):
        raise UserError("the loss is nan")
    assert not isinstance(caught.value, PeerError)
    assert json.loads(shared.get("failed")) == [1, "the loss is nan", "fault"]
    # and the first reason stays
    with pytest.raises(PeerError, match="rank 1: the loss is nan"), Watch(shared, 2, 1):
        raise UserError("the loss is inf")


def test_a_peer_that_was_asked_to_stop_has_not_failed():
    """All ranks end with the exit code that says: the same command continues."""
    shared = rendezvous()
    with pytest.raises(Interrupted), Watch(shared, 0, 1):
        raise Interrupted("asked to stop (SIGUSR2)")
    with pytest.raises(Interrupted, match=r"^asked to stop \(SIGUSR2\)$"), Watch(shared, 1, 1):
        raise RuntimeError("gloo: Connection closed by peer")
