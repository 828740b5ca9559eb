"""Jobs on a Dask cluster: local, running elsewhere, with workers that die."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from photometrus.cluster import N_TRIES, connected
from photometrus.errors import ServiceError

SLOW_S = 25.0


def square(number, n_threads, progress):
    """A job: tells, logs, gives its number's square and where it was."""
    progress(f"job {number}", 1, 1)
    logging.getLogger("photometrus.test").warning("job %d in %d", number, n_threads)
    return number * number, os.getpid()


def deadly(n_threads, progress):
    """A job that is the end of its worker."""
    os.kill(os.getpid(), signal.SIGKILL)


def deadly_once(marker, n_threads, progress):
    """A job that is the end of its first worker only."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def faulty(n_threads, progress):
    """A job with a bug."""
    raise ZeroDivisionError("a bug")


def slow(n_threads, progress):
    """A job that is not worth waiting for."""
    time.sleep(SLOW_S)


def nothing(*_):
    """A `Progress`, and a listener."""


@contextmanager
def dask_command(*words: str) -> Iterator[subprocess.Popen]:
    """``dask scheduler`` or ``dask worker`` as a process of its own, which sees the tests."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *words],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running_cluster(folder: Path, n_workers: int) -> Iterator[tuple[Path, subprocess.Popen]]:
    """A scheduler and its workers, started separately; the scheduler file and the workers."""
    file = folder / "cluster.json"
    where = ("--scheduler-file", str(file))
    # fmt: off
    scheduler = ("scheduler", *where, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    worker = ("worker", *where, "--nthreads", "1", "--nworkers", str(n_workers), "--no-dashboard",
              "--host", "127.0.0.1", "--local-directory", str(folder))
    # fmt: on
    with dask_command(*scheduler):
        wait_until(file.exists)
        with dask_command(*worker) as workers:
            yield file, workers


def wait_until(true, timeout_s: float = 120.0) -> None:
    """Come back when it is so; a failure when it never is."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def local() -> Iterator:
    """A local cluster of four workers, on however many cores."""
    with connected(n_workers=4) as cluster:
        yield cluster


def test_results_come_in_order_with_progress_and_log(local, caplog):
    told, done = [], []
    jobs = [partial(square, k) for k in range(8)]
    with caplog.at_level(logging.WARNING, "photometrus"):
        results = local.run(jobs, lambda *step: told.append(step), lambda k, r: done.append(k))
        wait_until(lambda: len(told) == 8 and len(caplog.messages) == 8)
    assert [value for value, _ in results] == [k * k for k in range(8)]
    assert sorted(done) == list(range(8))
    assert sorted(told) == [(f"job {k}", 1, 1) for k in range(8)]
    assert set(caplog.messages) == {f"job {k} in {local.n_threads}" for k in range(8)}
    assert os.getpid() not in {pid for _, pid in results}


def test_nobody_else_can_reach_it(local):
    """All ports are on loopback, and none answers without this run's keys."""
    me = psutil.Process()
    listening = [
        connection.laddr
        for process in [me, *me.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 4
    assert {place.ip for place in listening} == {"127.0.0.1"}
    assert local.client.scheduler.address.startswith("tls://")


def test_a_lost_worker_costs_a_retry(local, tmp_path, caplog):
    jobs = [partial(deadly_once, tmp_path / "marker"), partial(square, 3)]
    results = local.run(jobs, nothing, nothing)
    assert results[0] == "alive"
    assert results[1][0] == 9
    wait_until(lambda: any("is lost" in text for text in caplog.messages))


def test_a_job_that_kills_its_workers_costs_itself(local):
    results = local.run([deadly, *[partial(square, k) for k in range(6)]], nothing, nothing)
    assert isinstance(results[0], ServiceError)
    assert f"died {N_TRIES} times" in str(results[0])
    assert [value for value, _ in results[1:]] == [k * k for k in range(6)]


def test_a_running_cluster_by_its_file_and_by_its_address(tmp_path):
    with running_cluster(tmp_path, 1) as (file, _):
        with connected(str(file), n_threads=2) as cluster:
            address = cluster.client.scheduler.address
            assert cluster.run([partial(square, 5)], nothing, nothing)[0][0] == 25
            assert cluster.n_threads == 2
        with connected(address) as cluster:
            assert cluster.run([partial(square, 6)], nothing, nothing)[0][0] == 36


def test_no_cluster_is_an_error_of_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ServiceError, match="no such file"), connected(str(tmp_path / "no.json")):
        pass
    monkeypatch.setattr("photometrus.cluster.CONNECT_S", 0.5)
    with pytest.raises(ServiceError, match="no answer"), connected("tcp://127.0.0.1:9"):
        pass


def test_a_bug_is_not_hidden_and_nothing_else_is_waited_for(local):
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        local.run([faulty, slow], nothing, nothing)
    assert time.monotonic() - begun < SLOW_S


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers import by themselves")
def test_workers_are_copies_of_a_process_that_has_imported_what_they_need(local):
    assert set(local.client.run(has_imported, "photometrus.chip.recipe").values()) == {True}


def has_imported(name):
    return name in sys.modules


STARTING = """
import sys
from photometrus.cluster import connected
if __name__ == "__main__":
    try:
        with connected(n_workers=2):
            print("started", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_interrupted_while_it_starts_it_leaves_nothing_and_says_nothing(tmp_path):
    script = tmp_path / "starting.py"
    script.write_text(STARTING)
    with subprocess.Popen(
        [sys.executable, str(script)], start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        # Its first processes are there; the workers are not.
        wait_until(lambda: len(psutil.Process(process.pid).children()) >= 2)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        words = process.communicate(timeout=60)[1]
    assert words == ""
    assert process.returncode == 130
    _, left = psutil.wait_procs(children, timeout=20)
    assert not left


def test_leaving_it_ends_its_processes_and_threads():
    before = set(psutil.Process().children(recursive=True))
    threads = threading.active_count()
    with connected(n_workers=1) as cluster:
        cluster.run([partial(square, 2)], nothing, nothing)
    left = set(psutil.Process().children(recursive=True)) - before
    # One of which the next cluster's workers are copied, and its helper, end with this process.
    waiting = ("resource_tracker", "forkserver")
    assert not {p for p in left if not any(name in " ".join(p.cmdline()) for name in waiting)}
    assert threading.active_count() <= threads + 4  # Dask keeps a few threads for the next one
