"""Opening a store: made, migrated, or refused with the way out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from db import Store
from db._models import METADATA
from nas.resources import DatasetInfo
from searchspaces import StoreError
from tests.db.conftest import new_job


def test_the_migrated_schema_is_the_one_of_the_models(store: Store) -> None:
    with store._database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []


def test_the_migrated_schema_has_the_models_keys_and_collations(store: Store, store_url: str, tmp_path: Path) -> None:
    """What the comparison above passes over: primary keys, what deletes with what, and the order of text."""
    engine = store._database.engine
    migrated = described(engine)
    if store._database.is_sqlite:
        fresh = sa.create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    else:
        fresh = engine.execution_options(schema_translate_map={None: "fresh"})
        with engine.begin() as connection:
            connection.execute(sa.schema.CreateSchema("fresh"))
    METADATA.create_all(fresh)
    assert described(fresh, None if store._database.is_sqlite else "fresh") == migrated
    fresh.dispose()


def described(engine: sa.Engine, schema: str | None = None) -> dict[str, object]:
    inspector = sa.inspect(engine)
    return {
        table: (
            inspector.get_pk_constraint(table, schema),
            sorted((str(key["name"]), key["options"]) for key in inspector.get_foreign_keys(table, schema)),
            [(c["name"], getattr(c["type"], "collation", None)) for c in inspector.get_columns(table, schema)],
        )
        for table in METADATA.tables
    }


def test_a_store_keeps_what_it_holds_when_it_is_opened_again(open_store: Callable[[], Store]) -> None:
    job = new_job(open_store())
    assert open_store().job(job.job_id) == job


def test_many_that_open_a_new_store_at_once_make_it_once(store_url: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: Store.open(store_url, tmp_path), range(6)))
    job = new_job(stores[0])
    assert all(store.job(job.job_id) == job for store in stores)
    for store in stores:
        store.close()


def test_a_store_of_a_newer_version_is_refused(store: Store, store_url: str, tmp_path: Path) -> None:
    with store._database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"9999.*newer version"):
        Store.open(store_url, tmp_path)


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "nas.db"
    path.write_bytes(b"this is no database " * 100)
    with pytest.raises(StoreError, match="move the file away"):
        Store.open(f"sqlite:///{path}", tmp_path)
    assert path.read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "sqlite:///FILE"),
        ("mysql://here/nas", "sqlite:///FILE"),
        ("sqlite://", "sqlite:///FILE"),
        ("postgresql://nobody@127.0.0.1:1/nas", "check that it runs"),
    ],
)
def test_an_address_of_no_store_is_refused_with_the_way_out(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        Store.open(url, tmp_path)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="may write to"):
        Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path / "file")


def test_the_password_of_a_store_is_in_no_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as refused:
        Store.open("postgresql://user:secret@127.0.0.1:1/nas", tmp_path)
    assert "secret" not in str(refused.value)


def test_sqlite_is_in_write_ahead_mode_with_foreign_keys_and_whole_commits(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path)
    with store._database.read() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("foreign_keys", "synchronous")]
    store.close()
    assert found == [1, 2]
    raw = sqlite3.connect(tmp_path / "nas.db")
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()


ODD = ("a b", "100%", "what?", "no#3", "~", "~nobody", "größe", "資料", "a%20b", "q?mode=ro#x", "file:x", "'quoted\"")


@pytest.mark.parametrize("name", ODD)
def test_everything_of_a_store_lies_in_its_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    for again in range(2):
        store = Store.open(None, folder)
        assert len(store.datasets()) == again
        store.add_dataset(DatasetInfo(name="mine", plugin="npz"), replace=True)
        store.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / "nas.db").is_file()


def test_a_home_folder_and_a_relative_one_are_the_same_wherever_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "cwd")
    for url, folder in (
        (None, Path("~/x")),
        ("sqlite:///~/x/nas.db", Path("../x")),
        ("sqlite:///../x/nas.db", Path("~/x")),
    ):
        store = Store.open(url, folder)
        store.register_worker("host", 1, "cpu")
        store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cwd", "x"]
    assert list((tmp_path / "cwd").iterdir()) == []
    again = Store.open(None, tmp_path / "x")
    assert len(again.workers()) == 3
    again.close()


def test_a_folder_whose_name_is_too_long_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"x{300}.*File name too long"):
        Store.open(None, tmp_path / ("x" * 300))
