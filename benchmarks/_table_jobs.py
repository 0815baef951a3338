"""Whole jobs over a generated table, through the store: what a candidate costs early and late in a long search."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from api.worker import WorkerLoop
from db import Store
from nas.admission import admit
from nas.streams import stream

SIZES = (5, 5, 5, 5, 5, 4, 4, 4)
ROWS = 200_000  # the product of the sizes
SEARCHER = "random"  # costs nothing itself, so that the job does
PART = 1_000
_LOOK_SECONDS = 0.02


class TableJob(NamedTuple):
    """What a job took, in seconds of the processor.

    Attributes:
        first: for the first `PART` evaluations that came after the first batch.
        last: for the last `PART`, to the end of the job.
        seconds: of the whole job, reading its table included.
    """

    first: float
    last: float
    seconds: float


def write_table(path: Path) -> None:
    """An own table (`file`) of 200,000 architectures, with a quality to measure and a price that is known."""
    rng = stream(0, "overhead", "table")
    levels = np.unravel_index(np.arange(ROWS), SIZES)
    named = {f"decision.decision{place}": level.astype(str) for place, level in enumerate(levels)}
    weights = [rng.random((2, size)) for size in SIZES]
    quality, price = sum(each[:, level] for each, level in zip(weights, levels, strict=True))
    np.savez(path, **named, **{"quality": quality, "cost.price": price})  # type: ignore[arg-type]


def table_job(evaluations: int, table: Path) -> TableJob:
    """Run one job to its end: admitted, leased by a worker of this process, every candidate through SQLite."""
    spec: dict[str, Any] = {
        "space": {"name": "options", "config": {"file": str(table)}},
        "evaluator": "table",
        "searcher": SEARCHER,
        "objectives": {"quality": "max", "price": "min"},
        "budget": {"evaluations": evaluations},
    }
    with tempfile.TemporaryDirectory(prefix="table-job-") as folder, _worker(Path(folder)) as store:
        job_id = store.create_job(*admit(spec, datasets={})).job_id
        began = time.process_time()
        seen = list(_watched(store, job_id))
        if (done := store.job(job_id)).spent.evaluations != evaluations:
            raise RuntimeError(f"a job of {evaluations} evaluations ended {done.state} after {done.spent.evaluations}.")
    start = next(look for look in seen if look[0] > 0)
    first = next((look for look in seen if look[0] >= start[0] + PART), seen[-1])
    before = next(look for look in reversed(seen) if look[0] <= max(start[0], evaluations - PART))
    # Looks do not fall on full thousands: both parts are scaled to the evaluations that lie in them.
    early, late = (first[1] - start[1]) / (first[0] - start[0]), (seen[-1][1] - before[1]) / (evaluations - before[0])
    return TableJob(early * PART, late * PART, seen[-1][1] - began)


def _watched(store: Store, job_id: str) -> Iterator[tuple[int, float]]:
    """(evaluations so far, seconds of the processor so far) again and again until the job has ended."""
    while not (job := store.job(job_id)).state.is_terminal:
        yield job.spent.evaluations, time.process_time()
        time.sleep(_LOOK_SECONDS)
    yield job.spent.evaluations, time.process_time()


@contextmanager
def _worker(folder: Path) -> Iterator[Store]:
    """A store in this folder, and a worker that works on it."""
    store = Store.open(f"sqlite:///{folder / 'nas.db'}", folder / "files")
    loop = WorkerLoop(store, folder, lease_seconds=120)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield store
    finally:
        loop.stop.set()
        thread.join(60)
        store.close()
