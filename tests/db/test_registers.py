"""Workers, data sets, remembered answers, counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from db import Store
from db._models import answers, workers
from nas.resources import DatasetInfo
from searchspaces import Conflict, NotFound, SpecError
from tests.db.conftest import claimed, new_job


def back_in_time(store: Store, column: sa.Column[object], **ago: float) -> None:
    """Make rows as old as if they had been written so long ago."""
    with store._database.write() as connection:
        now = store._database.now(connection)
        connection.execute(sa.update(column.table).values({column.name: now - timedelta(**ago)}))


def test_a_worker_is_idle_busy_or_gone(store: Store) -> None:
    worker = store.register_worker("here", 12, "cuda:0")
    assert (worker.host, worker.process_id, worker.device, worker.state) == ("here", 12, "cuda:0", "IDLE")
    store.beat(worker.worker_id, "unit_1")
    (busy,) = store.workers()
    assert (busy.state, busy.unit_id) == ("BUSY", "unit_1")
    assert busy.seen_at >= worker.seen_at
    back_in_time(store, workers.c.seen_at, minutes=1)
    assert store.workers()[0].state == "GONE"
    store.beat(worker.worker_id, None)
    (idle,) = store.workers()
    assert (idle.state, idle.unit_id) == ("IDLE", None)
    store.beat(worker.worker_id, None)
    assert store.workers() == (idle,)


def test_a_worker_not_seen_for_a_day_is_forgotten(store: Store) -> None:
    old = store.register_worker("here", 1, "cpu")
    back_in_time(store, workers.c.seen_at, days=2)
    new = store.register_worker("here", 2, "cpu")
    assert [worker.worker_id for worker in store.workers()] == [new.worker_id]
    with pytest.raises(NotFound, match="register"):
        store.beat(old.worker_id, None)


def test_data_sets_are_added_replaced_and_removed(store: Store) -> None:
    digits = DatasetInfo(name="digits", plugin="digits", sizes={"train": 10}, input_shape=(1, 8, 8))
    own = DatasetInfo(name="own", plugin="npz", config={"path": "own.npz"})
    assert store.add_dataset(own) == own
    store.add_dataset(digits)
    assert store.datasets() == (digits, own)
    better = own.model_copy(update={"available": False, "error": "gone"})
    store.add_dataset(better)
    assert store.dataset("own") == better
    store.remove_dataset("own")
    assert store.datasets() == (digits,)
    for missing in (store.dataset, store.remove_dataset):
        with pytest.raises(NotFound, match="own"):
            missing("own")


def test_an_answer_is_remembered_for_its_request_alone(store: Store) -> None:
    assert store.recall("key", "hash") is None
    with pytest.raises(Conflict, match="being answered"):
        store.recall("key", "hash")
    store.remember("key", "hash", {"status": 201})
    assert store.recall("key", "hash") == {"status": 201}
    with pytest.raises(SpecError, match="Idempotency-Key"):
        store.recall("key", "other")
    with pytest.raises(SpecError, match="Idempotency-Key"):
        store.remember("key", "other", {})
    assert store.recall("key", "hash") == {"status": 201}


def test_a_key_whose_request_failed_is_free_again_but_an_answer_is_not_forgotten(store: Store) -> None:
    assert store.recall("key", "hash") is None
    store.forget("key")
    assert store.recall("key", "other") is None
    store.remember("key", "other", {"status": 201})
    store.forget("key")
    assert store.recall("key", "other") == {"status": 201}


def test_an_answer_is_kept_a_day_and_an_abandoned_key_a_minute(store: Store) -> None:
    store.remember("old", "hash", {})
    back_in_time(store, answers.c.created_at, hours=23)
    assert store.recall("old", "hash") == {}
    back_in_time(store, answers.c.created_at, hours=25)
    assert store.recall("old", "hash") is None
    back_in_time(store, answers.c.created_at, minutes=2)
    assert store.recall("old", "other") is None


def test_of_equal_requests_at_once_one_is_let_through(open_store: Callable[[], Store]) -> None:
    stores, together = [open_store() for _ in range(4)], threading.Barrier(4)

    def ask(store: Store) -> str:
        together.wait()
        try:
            return "mine" if store.recall("key", "hash") is None else "answered"
        except Conflict:
            return "wait"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(ask, stores)) == ["mine", "wait", "wait", "wait"]


def test_counts_say_how_much_there_is_by_state(store: Store, worker_id: str) -> None:
    new_job(store)
    new_job(store)
    claimed(store, worker_id)
    counts = store.counts()
    assert counts.jobs == {"RUNNING": 1, "QUEUED": 1}
    assert (counts.units, counts.evaluations, counts.workers) == ({"LEASED": 1}, {}, {"IDLE": 1})
