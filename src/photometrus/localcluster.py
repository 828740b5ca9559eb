"""A Dask cluster of this machine's own: worker processes that nobody else can reach."""

import logging
import os
import signal
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
PRELOADED = ["distributed", "photometrus.jobs"]
"""What the process has imported of which all workers are copies."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SETTINGS = {
    "distributed.worker.multiprocessing-method": START_METHOD,
    # In place of Dask's own, which also fixes a threshold of malloc: every large array would then
    # be asked from the system anew, page by page.
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
    # Dask's looks at itself, fifty a second, are 8 % of a core for two workers.
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.system-monitor.interval": "5s",
    # A worker has one chip, which is within its share or lost: nothing is gained by waiting.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.98,
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


def started(stack: ExitStack, n_workers: int, n_tries: int, worker_bytes: int) -> Any:
    """A distributed.Client of a new cluster, which `stack` ends.

    n_tries : of a job whose workers die; worker_bytes : a worker that needs more is killed
    """
    import dask
    from distributed import Client, LocalCluster, Security

    stack.enter_context(dask.config.set(SETTINGS))
    if START_METHOD == "forkserver":
        _run_fork_server()
    # Who else is on this machine must not run anything in our name: keys of this run's own.
    security = Security.temporary()

    def start() -> LocalCluster:
        return LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tls",
            security=security,
            dashboard_address=None,
            scheduler_kwargs={
                "dashboard_address": "127.0.0.1:0",
                "dashboard": False,
                "allowed_failures": n_tries - 1,
            },
            silence_logs=logging.CRITICAL,
            memory_limit=worker_bytes,
        )

    cluster = _uninterrupted(stack, start)
    client = stack.enter_context(Client(cluster, set_as_default=False))
    client.register_worker_callbacks(setup=_leave_interrupts_to_us)
    return client


def _uninterrupted(stack: ExitStack, start: Any) -> Any:
    """What `start` gives, closed at the end; also when Ctrl-C comes before it is there.

    Dask cannot be stopped while it starts: half a cluster does not know how to close.
    """
    with ThreadPoolExecutor(1, "cluster") as pool:
        cluster: Future[Any] = pool.submit(start)
        stack.callback(lambda: cluster.exception() or cluster.result().close())
        return cluster.result()


def _run_fork_server() -> None:
    """Start the process of which every worker is a copy; it stays until this one ends.

    A worker that imports by itself takes two seconds of a core for it, and half of one to end.
    """
    from multiprocessing import forkserver, resource_tracker

    from distributed.utils import get_mp_context

    # Dask has a list of its own, which it sets at the first call.
    get_mp_context().set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # it unblocks what is blocked
    before = {name: os.environ[name] for name in ONE_THREAD if name in os.environ}
    # What is blocked is inherited: Ctrl-C reaches all processes of a terminal, one must act on it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(ONE_THREAD)
    try:
        forkserver.ensure_running()
    finally:
        for name in ONE_THREAD:
            del os.environ[name]
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _leave_interrupts_to_us() -> None:
    """On a worker: Ctrl-C reaches all processes of a terminal, and one must act on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
