"""The scenarios of this folder, all started by the first test, or the reason why they cannot be."""

import signal

import pytest
from laboratory import Laboratory, running_cluster
from slurm_cluster import missing


@pytest.fixture(scope="session")
def laboratory(request, tmp_path_factory, demo_data):
    reason = missing()
    if reason:
        pytest.skip(f"no Slurm: {reason}")
    # In the background Ctrl-C and a closed terminal are ignored, and children would inherit that.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    with running_cluster({"gpu": 2, "grid": 2}) as cluster:
        started = Laboratory(cluster, tmp_path_factory.mktemp("slurm"), demo_data)
        try:
            for test in request.session.items:
                if "laboratory" in test.fixturenames:
                    started.start(test.callspec.params["scenario"])
            yield started
        finally:
            started.close()
