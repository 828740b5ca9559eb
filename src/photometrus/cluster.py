"""Jobs on a Dask cluster: one of this machine's own, or any that runs.

A job is small: paths and settings travel to a worker, what became of it travels back, never
pixels. A worker that is lost costs its job another try.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from photometrus import __version__, localcluster
from photometrus.errors import PhotometrusError, ServiceError
from photometrus.frame import LISTED, Progress
from photometrus.memory import Room, machine_bytes
from photometrus.workers import cores

log = logging.getLogger(__name__)

N_TRIES = 3
"""A job that has cost so many workers is at fault itself."""
WAIT_FOR_WORKERS_S = 1800.0
"""A batch system may take a while to start the first."""
CONNECT_S = 20.0

Job = Callable[[int, Progress], Any]
"""What to do: given the threads it may use, and whom to tell how far it is."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers.

    client : distributed.Client; n_workers : processes at once; n_threads : for each job
    slots : lets so many jobs go at once; a running cluster queues them itself
    wait : until somebody is there who does them; ServiceError when nobody comes
    """

    client: Any = field(repr=False)
    n_workers: int
    n_threads: int
    slots: Any = field(default_factory=nullcontext, repr=False)
    wait: Callable[[], None] = field(default=lambda: None, repr=False)

    def run(
        self,
        jobs: Sequence[Job],
        progress: Progress,
        done: Callable[[int, Any], None],
    ) -> list[Any]:
        """What became of each job, in order; of one whose workers died, a ServiceError.

        done : told (number, result) of each in the order of finishing
        Raises ServiceError when the scheduler is gone, CancelledError when the cluster is closed,
        and what a job raised.
        """
        topic = f"photometrus-{uuid.uuid4().hex}"
        self.client.subscribe_topic(topic, _Listener(progress))
        level = logging.getLogger("photometrus").getEffectiveLevel()
        sent = _Sent(self.client)
        try:
            # The threads only wait: each for one job.
            with ThreadPoolExecutor(max(1, len(jobs)), thread_name_prefix="job") as pool:
                tasks = [_Task(job, self.n_threads, topic, level) for job in jobs]
                numbers = {pool.submit(self._result, task, sent): k for k, task in enumerate(tasks)}
                try:
                    # Not before there are jobs: an adaptive cluster starts workers for them.
                    self.wait()
                    for future in as_completed(numbers):
                        done(numbers[future], future.result())
                finally:
                    sent.call_back()
                return [future.result() for future in numbers]
        finally:
            if self.client.status == "running":
                self.client.unsubscribe_topic(topic)

    def _result(self, task: "_Task", sent: "_Sent") -> Any:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        with self.slots:
            try:
                return sent.send(task).result()
            except KilledWorker as error:
                return ServiceError(
                    f"its worker died {error.allowed_failures + 1} times; too little memory? "
                    "try fewer -workers"
                )
            except (CommClosedError, CancelledError) as error:
                if sent.stopped.is_set() or self.client.status == "closed":
                    raise CancelledError from error  # as we wanted
                raise ServiceError(
                    f"the scheduler is gone ({error}); start it, type the same command to go on"
                ) from error


class _Sent:
    """The tasks of one call that are on the cluster, until they are called back."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.stopped = threading.Event()
        self._futures: list[Any] = []
        self._lock = threading.Lock()

    def send(self, task: "_Task") -> Any:
        """The future of a task; CancelledError when nothing is to be sent any more."""
        with self._lock:
            if self.stopped.is_set():
                raise CancelledError
            self._futures.append(self.client.submit(task, key=f"chip-{uuid.uuid4().hex}"))
            return self._futures[-1]

    def call_back(self) -> None:
        """Forget what is not finished; whoever waits for it gets a CancelledError."""
        with self._lock:
            self.stopped.set()
        waiting = [future for future in self._futures if not future.done()]
        if waiting and self.client.status == "running":
            self.client.cancel(waiting)


@contextmanager
def connected(
    scheduler: str = "",
    n_workers: int = 0,
    n_threads: int = 0,
    *,
    at_most: int = 0,
    room: Room | None = None,
) -> Iterator[Cluster]:
    """A running cluster, or one on this machine for as long as it is needed.

    scheduler : its address, ``tcp://host:8786``, or its scheduler file, ``cluster.json``; empty
        starts worker processes here, which nobody else can reach
    n_workers : processes of the local one; 0 as many as there are cores and memory for
    n_threads : for each job; 0: local workers share the cores, on a running cluster it is 1
    at_most : jobs there will be, when that is known: more local workers would be idle
    room : memory for all local workers together, for each one of a running cluster; None: the
        machine's, whatever a job needs

    Raises UsageError when a job does not fit into its room,
    ServiceError when there is no scheduler, or it has no worker for half an hour.
    """
    with ExitStack() as stack:
        if scheduler:
            yield _running(stack, scheduler, n_threads)
        else:
            room = room or Room(machine_bytes())
            wanted = n_workers or room.jobs(cores())
            yield _local(stack, min(wanted, at_most or wanted), n_threads, room)


def _running(stack: ExitStack, scheduler: str, n_threads: int) -> Cluster:
    from distributed import Client

    is_file = scheduler.endswith(".json")
    if is_file and not Path(scheduler).is_file():
        raise ServiceError(f"-scheduler {scheduler}: no such file; is the scheduler running?")
    where = {"scheduler_file": scheduler} if is_file else {"address": scheduler}
    try:
        client = stack.enter_context(Client(**where, timeout=CONNECT_S, set_as_default=False))
    except (OSError, ValueError) as error:
        raise ServiceError(
            f"-scheduler {scheduler}: no answer ({error}); start one with `dask scheduler`, or "
            "leave the option out"
        ) from error
    _listen_for_losses(stack, client)
    wait = partial(_wait_for_workers, client, scheduler, threading.Lock())
    return Cluster(client, len(client.nthreads()), n_threads or 1, wait=wait)


def _wait_for_workers(client: Any, scheduler: str, one_waits: Any) -> None:
    with one_waits:
        if client.nthreads():
            return
        log.warning("%s has no workers yet: waiting for the first", scheduler)
        try:
            client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS_S)
        except TimeoutError as error:
            raise ServiceError(
                f"-scheduler {scheduler}: no worker in {WAIT_FOR_WORKERS_S:.0f} s; start some with "
                f"`dask worker {scheduler}`"
            ) from error


def _local(stack: ExitStack, n_workers: int, n_threads: int, room: Room) -> Cluster:
    each = room.threads(n_threads or max(1, cores() // n_workers), n_workers)
    client = localcluster.started(stack, n_workers, N_TRIES, room.total_bytes // n_workers)
    _listen_for_losses(stack, client)
    # One job per worker: one that only waits for its turn is not blamed for a worker's death.
    return Cluster(client, n_workers, each, threading.BoundedSemaphore(n_workers))


# ---------------------------------------------------------------- what travels


@dataclass(frozen=True)
class _Task:
    """A job on its way to a worker, and the topic under which it tells how far it is."""

    job: Job
    n_threads: int
    topic: str
    level: int
    version: str = __version__

    def __call__(self) -> Any:
        from distributed import get_worker

        if self.version != __version__:
            raise PhotometrusError(
                f"photometrus {__version__} on worker {get_worker().address}, {self.version} here; "
                "install the same everywhere"
            )
        threadpool_limits(1, user_api="blas")
        handler = _Teller(get_worker(), self.topic)
        handler.setLevel(self.level)
        logger = logging.getLogger("photometrus")
        logger.addHandler(handler)
        logger.setLevel(self.level)
        try:
            return self.job(self.n_threads, handler.progress)
        finally:
            logger.removeHandler(handler)


class _Teller(logging.Handler):
    """Sends progress and log records from a worker to who gave the job."""

    def __init__(self, worker: Any, topic: str) -> None:
        super().__init__()
        self.worker = worker
        self.topic = topic

    def progress(self, step: str, done: int, of: int) -> None:
        """A `Progress`."""
        self.worker.log_event(self.topic, {"progress": (step, done, of)})

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        listed = getattr(record, "listed", False)
        words = (record.name, record.levelno, record.getMessage(), listed)
        self.worker.log_event(self.topic, {"log": words})


@dataclass(frozen=True)
class _Listener:
    """Passes on what tellers send."""

    progress: Progress

    def __call__(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        if "log" in message:
            name, level, text, listed = message["log"]
            logging.getLogger(name).log(level, "%s", text, extra=LISTED if listed else None)
        else:
            with suppress(CancelledError):  # who listens has stopped; the jobs are called back
                self.progress(*message["progress"])


def _listen_for_losses(stack: ExitStack, client: Any) -> None:
    client.subscribe_topic("all", _tell_of_losses)

    def leave() -> None:
        if client.status == "running":
            client.unsubscribe_topic("all")

    stack.callback(leave)


def _tell_of_losses(event: tuple[float, dict[str, Any]]) -> None:
    """Says that a worker is gone, when it had work."""
    _, message = event
    if message["action"] != "remove-worker" or message["expected"]:
        return
    if message["processing-tasks"]:
        log.warning("worker %s is lost: what it did is done again", message["worker"])
