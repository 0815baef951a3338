"""The SDK against a real service, and what it does when the network or the service misbehaves."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import httpx
import pytest

from nas.client import AsyncClient, Client
from nas.client._events import Message
from nas.client._progress import ProgressDisplay, duration, whole_percent
from nas.resources import Delivery, Job, JobState
from nas.spec import JobSpec
from searchspaces import Conflict, ExportError, InvalidState, NotFound, ServiceError, SpecError
from tests.api.conftest import SPEC, TEXTS, Running, SearchOnly, examining, fill, service_with

CARD = {"README.md": b"# card", "card.json": b"{}", "reproduce.py": b"pass\n"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with service_with(tmp_path / "store") as found:
        yield found


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_URL", raising=False)
    monkeypatch.delenv("NAS_TOKEN", raising=False)


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.url) as found:
        yield found


@pytest.fixture
def searched(running: Running, client: Client) -> Job:
    return running.searched()


def finish(running: Running) -> None:
    """What a worker's next claim does once the last unit is done: the job ends."""
    worker = running.store.register_worker("tests", 1, "cpu")
    assert running.store.claim(worker.worker_id, lease_seconds=60, planner=SearchOnly()) is None


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_spec_a_mapping_and_a_file_submit_the_same(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps(SPEC))  # JSON is YAML
    jobs = [client.submit(given) for given in (SPEC, JobSpec.from_mapping(SPEC), file, str(file))]
    assert {job.job.spec_digest for job in jobs} == {JobSpec.from_mapping(SPEC).digest()}
    assert len({job.job_id for job in jobs}) == 4
    assert [job.job_id for job in client.jobs()] == [job.job_id for job in reversed(jobs)]
    assert len(client.jobs(limit=3)) == 3


def test_a_key_sent_twice_submits_once(client: Client) -> None:
    first, second = (client.submit(SPEC, idempotency_key="key-of-mine") for _ in range(2))
    assert first.job_id == second.job_id


def test_jobs_are_found_by_state_label_prefix_and_latest(client: Client) -> None:
    first, second = client.submit(SPEC), client.submit({**SPEC, "labels": {"team": "audio"}})
    first.cancel()
    assert [job.job_id for job in client.jobs(state=JobState.QUEUED)] == [second.job_id]
    assert [job.job_id for job in client.jobs(label="team:vision")] == [first.job_id]
    assert client.find_job("latest").job_id == second.job_id
    assert client.find_job(second.job_id).job_id == second.job_id
    assert client.find_job(second.job_id[:-1]).job_id == second.job_id
    with pytest.raises(NotFound, match="no job 'nosuch'"):
        client.find_job("nosuch")
    with pytest.raises(NotFound, match="2 jobs begin"):
        client.find_job(first.job_id[:4])


def test_a_dry_run_leaves_no_job(running: Running, client: Client) -> None:
    with examining(running.store):
        assert client.dry_run(SPEC).space_size == 15_625
    assert client.jobs() == []


def test_a_dry_run_with_no_worker_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.client._flows._WORKER_SECONDS", 0.3)
    with pytest.raises(ServiceError, match="no worker is running; start one with `nas worker`") as caught:
        client.dry_run(SPEC)
    assert caught.value.code == "NO_WORKER"


def test_verbs_change_the_state(client: Client) -> None:
    job = client.submit(SPEC)
    assert job.pause().state in (JobState.PAUSED, JobState.PAUSING)
    assert job.resume().state in (JobState.QUEUED, JobState.RUNNING)
    assert job.cancel().state is JobState.CANCELLED
    with pytest.raises(InvalidState, match="CANCELLED"):
        job.pause()
    job.delete()
    with pytest.raises(NotFound):
        job.refresh()


def test_a_change_based_on_an_old_view_is_refused(client: Client) -> None:
    job = client.submit(SPEC)
    stale = client.job(job.job_id)
    job.change(name="better", budget={"evaluations": 999})
    assert (job.job.name, job.job.budget.evaluations) == ("better", 999)
    with pytest.raises(Conflict):
        stale.change(name="worse")
    stale.refresh()
    assert stale.change(labels={"a": "b"}).job.labels == {"a": "b"}


# --- what a job has ---------------------------------------------------------------------------------------------------


def test_candidates_are_read_through_all_pages(client: Client, searched: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.client._calls.PAGE_SIZE", 5)
    found = client.job(searched.job_id).candidates()
    assert [candidate.text for candidate in found] == list(TEXTS)
    assert [candidate.text for candidate in found] == list(TEXTS)  # a second time from the start


def test_candidates_come_sorted_and_filtered(client: Client, searched: Job) -> None:
    job = client.job(searched.job_id)
    values = [c.values["params@cost"] for c in job.candidates(order_by="params@cost", descending=True)]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(TEXTS)
    assert list(job.candidates(feasible=False)) == []


def test_candidates_are_counted_and_indexed(client: Client, searched: Job) -> None:
    found = client.job(searched.job_id).candidates()
    everything = list(found)
    assert len(found) == len(everything) == len(TEXTS)
    assert repr(found) == f"CandidateList of {len(TEXTS)} candidates"
    assert (found[0], found[-1]) == (everything[0], everything[-1])
    for part in (slice(2), slice(1, 3), slice(-2, None), slice(None), slice(None, None, 2)):
        assert found[part] == everything[part]
    with pytest.raises(IndexError):
        found[len(TEXTS)]
    on_front = client.job(searched.job_id).candidates(on_front=True)
    assert len(on_front) == len(list(iter(on_front))) > 0
    assert len(client.job(searched.job_id).candidates(feasible=False)) == 0


def test_a_job_is_one_line_where_a_notebook_shows_it(client: Client, searched: Job) -> None:
    shown = repr(client.job(searched.job_id).refresh())
    assert searched.job_id in shown
    assert len(shown) < 200


def test_a_table_has_one_row_per_candidate_and_a_column_per_metric(client: Client, searched: Job) -> None:
    table = client.job(searched.job_id).candidates().to_pandas()
    assert list(table.columns) == [
        *("number", "accuracy@supernet", "params@cost"),
        *("on_front", "feasible", "digest", "text"),
    ]
    assert len(table) == len(TEXTS)
    assert table["accuracy@supernet"].max() == pytest.approx(0.5 + (len(TEXTS) - 1) / 100)


def test_the_best_candidate_is_the_front_s_first(client: Client, searched: Job) -> None:
    job = client.job(searched.job_id)
    best = job.best()
    assert best.values["accuracy@supernet"] == max(p.values["accuracy@supernet"] for p in job.pareto().points)
    assert best.candidate.evaluations
    assert best.text in repr(best)


@pytest.mark.parametrize("name", ["pareto", "hypervolume", "training", "paths"])
def test_figures_are_plotly_figures(client: Client, searched: Job, name: str) -> None:
    import plotly.graph_objects

    figure = client.job(searched.job_id).figure(name)
    assert isinstance(figure, plotly.graph_objects.Figure)
    assert figure.data


def test_events_come_in_order_after_a_number(client: Client, searched: Job) -> None:
    job = client.job(searched.job_id)
    events = list(job.events())
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.sequence for event in job.events(after=5)] == list(range(6, len(events) + 1))
    assert list(job.events(follow=True)) == events


def test_the_service_lists_what_it_has(client: Client) -> None:
    listed = (
        client.spaces(),
        client.searchers(),
        client.recipes(),
        client.costs(),
        client.predictors(),
        client.evaluators(),
        client.tasks(),
    )
    assert all(listed)
    assert "nasbench201" in {space.name for space in client.spaces()}
    assert client.workers() == []


def test_data_sets_are_added_checked_and_removed(client: Client) -> None:
    added = client.add_dataset("numbers", "digits", {})
    assert client.dataset("numbers") == added
    assert [info.name for info in client.datasets()] == ["numbers"]
    assert client.check_dataset("numbers").digest == added.digest
    client.remove_dataset("numbers")
    with pytest.raises(NotFound):
        client.dataset("numbers")


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_waiting_ends_with_the_job_and_tells_of_it(
    running: Running, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    job = client.submit(SPEC)

    def work() -> None:
        lease = running.lease()
        fill(lease, 3)
        lease.complete({})
        finish(running)

    worker = threading.Thread(target=work)
    worker.start()
    ended = job.wait()
    worker.join()
    assert ended.state is job.state is JobState.SUCCEEDED
    assert "SUCCEEDED" in capsys.readouterr().out


def test_waiting_for_a_cancelled_job_returns_it_or_raises_on_request(client: Client) -> None:
    job = client.submit(SPEC)
    job.cancel()
    assert job.wait(progress=False).state is JobState.CANCELLED
    with pytest.raises(ServiceError, match="ended CANCELLED"):
        job.wait(progress=False, raise_on_failure=True)


def test_a_stream_that_breaks_goes_on_after_the_last_event(running: Running, searched: Job) -> None:
    asked: list[str] = []

    class Breaking(httpx.BaseTransport):
        """Hands requests on; every stream breaks after its first event."""

        def __init__(self) -> None:
            self.inner = httpx.HTTPTransport()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = self.inner.handle_request(request)
            if request.headers["Accept"] == "text/event-stream" and len(asked) < 3:
                asked.append(request.headers["Last-Event-ID"])
                response.stream = Cut(response.stream)
            return response

        def close(self) -> None:
            self.inner.close()

    class Cut(httpx.SyncByteStream):
        def __init__(self, stream: object) -> None:
            self.stream = stream

        def __iter__(self) -> Iterator[bytes]:
            seen = b""
            for chunk in self.stream:  # type: ignore[attr-defined]
                seen += chunk
                yield chunk
                if b"\nid: " in seen or seen.startswith(b"id: "):
                    raise httpx.ReadError("cut")

        def close(self) -> None:
            self.stream.close()  # type: ignore[attr-defined]

    with Client(running.url, transport=Breaking()) as client:
        sequences = [event.sequence for event in client.job(searched.job_id).events(follow=True)]
    assert sequences == list(range(1, len(sequences) + 1))
    assert asked[0] == "0"
    assert int(asked[1]) > 0


def test_the_display_counts_and_names_the_best(client: Client, searched: Job) -> None:
    from rich.console import Console

    out = io.StringIO()
    handle = client.job(searched.job_id)
    with ProgressDisplay(handle.job, shown=True, console=Console(file=out, force_terminal=True, width=200)) as display:
        display.front(handle.pareto())
    assert "SUCCEEDED" in out.getvalue()
    assert f"front {len(TEXTS)}" in out.getvalue()


def test_the_display_says_what_a_paused_job_waits_for(client: Client, searched: Job) -> None:
    from rich.console import Console

    out = io.StringIO()
    with ProgressDisplay(client.job(searched.job_id).job, shown=True, console=Console(file=out)) as display:
        display.tell(Message("job.state", 1, {"data": {"state": "PAUSED", "reason": "the data are gone"}}))
        display.tell(Message("job.state", 2, {"data": {"state": "PAUSED", "reason": None}}))
    assert out.getvalue().count("paused: ") == 1
    assert "paused: the data are gone" in out.getvalue()


def test_a_front_that_grew_just_after_it_was_asked_for_is_asked_for_again(
    client: Client, searched: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    now = [100.0]
    monkeypatch.setattr("nas.client._progress.time", SimpleNamespace(monotonic=lambda: now[0]))  # not everybody's clock
    display = ProgressDisplay(client.job(searched.job_id).job, shown=True, console=Console(file=io.StringIO()))
    grew, moved = Message("front", 1, {}), Message("progress", None, {})
    assert display.wants_front(grew)
    now[0] += 0.5
    assert not display.wants_front(grew)
    now[0] += 5.0
    assert display.wants_front(moved)
    now[0] += 5.0
    assert not display.wants_front(moved)


def test_a_notebook_without_widgets_shows_one_line_that_is_written_over(
    client: Client, searched: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    lines: list[str] = []

    class Handle:
        def update(self, shown: dict[str, str], *, raw: bool) -> None:
            lines.append(shown["text/plain"])

    notebook = ModuleType("IPython.display")
    notebook.display = lambda shown, *, raw, display_id: Handle()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    handle = client.job(searched.job_id)
    with ProgressDisplay(handle.job, shown=True, console=Console(force_jupyter=True)) as display:
        display.front(handle.pareto())
    assert f"front {len(TEXTS)}" in lines[-1]
    assert "SUCCEEDED" in lines[-1]


@pytest.mark.parametrize(("fraction", "shown"), [(0.29, "29%"), (0.996, "99%"), (1.0, "100%"), (0.0, "0%")])
def test_percentages_are_rounded_and_100_is_all_of_it(fraction: float, shown: str) -> None:
    assert whole_percent(fraction) == shown


def test_durations_are_for_people() -> None:
    assert [duration(s) for s in (0.4, 59, 61, 3599, 7260)] == [
        "0 s",
        "59 s",
        "1 min 01 s",
        "59 min 59 s",
        "2 h 01 min",
    ]


# --- exports ----------------------------------------------------------------------------------------------------------


@contextmanager
def exporting(running: Running, client: Client) -> Iterator[Job]:
    """A finished job with one delivered network, and a worker that makes the exports that are asked for."""
    job = client.submit(SPEC)
    lease = running.lease()
    fill(lease, 4)
    files = {"model.onnx": b"onnx", **CARD}

    def archive(name: str, text: str) -> dict[str, str]:
        path = running.folder / f"{name}.zip"
        path.write_bytes(packed({**files, "made.txt": text.encode()}))
        return {name: lease.artifacts.put(path, kind=name, name=path.name).artifact_id}

    best = max(lease.journal.front().points, key=lambda p: p.values["accuracy@supernet"])
    trained = Delivery(digest=best.digest, text=best.text, weights="trained", artifacts=archive("onnx", "delivered"))
    lease.journal.report(trained)
    on_request = archive("pytorch", "on request")
    lease.complete({})
    finish(running)
    ending = threading.Event()

    def work() -> None:
        me = running.store.register_worker("exporter", 2, "cpu")
        while not ending.wait(0.02):
            found = running.store.claim(me.worker_id, lease_seconds=60, planner=SearchOnly())
            if found:
                payload = found.unit.payload
                made = Delivery(
                    digest=payload["digest"], text=payload["text"], weights=payload["weights"], artifacts=on_request
                )
                found.complete({"delivery": made.model_dump(mode="json")})

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield running.store.job(job.job_id)
    finally:
        ending.set()
        worker.join()


@pytest.fixture
def exportable(running: Running, client: Client) -> Iterator[Job]:
    with exporting(running, client) as job:
        yield job


def test_a_delivered_network_is_saved_as_one_file_folder_or_archive(
    client: Client, exportable: Job, tmp_path: Path
) -> None:
    best = client.job(exportable.job_id).best()
    assert best.export(tmp_path / "new" / "model.onnx").read_bytes() == b"onnx"
    folder = best.export(tmp_path / "folder", format="onnx")
    assert {file.name for file in folder.iterdir()} == {"model.onnx", "made.txt", *CARD}
    assert (folder / "made.txt").read_text() == "delivered"
    saved = best.export(tmp_path / "all.zip", format="onnx")
    assert zipfile.ZipFile(saved).read("model.onnx") == b"onnx"
    assert client.job(exportable.job_id).exports() == []
    assert list(tmp_path.rglob(".nas-*")) == []


def test_any_other_point_is_exported_on_request(client: Client, exportable: Job, tmp_path: Path) -> None:
    job = client.job(exportable.job_id)
    other = next(c for c in job.candidates() if c.digest != job.best().digest)
    folder = job.candidate(other.digest).export(tmp_path / "other", format="pytorch")
    assert (folder / "made.txt").read_text() == "on request"
    (asked,) = job.exports()
    assert (asked.digest, asked.weights, asked.formats) == (other.digest, "trained", ("pytorch",))


def test_an_export_never_replaces_a_file_unasked(client: Client, exportable: Job, tmp_path: Path) -> None:
    best = client.job(exportable.job_id).best()
    file = tmp_path / "model.onnx"
    file.write_bytes(b"precious")
    with pytest.raises(ExportError, match="exists already"):
        best.export(file)
    assert file.read_bytes() == b"precious"
    best.export(file, overwrite=True)
    assert file.read_bytes() == b"onnx"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        best.export(tmp_path / "full", format="onnx")


@pytest.mark.parametrize(
    ("name", "format", "said"),
    [("model.onnx", "pytorch", "of format onnx"), ("model", None, "say the format"), ("model", "tflite", "no format")],
)
def test_an_export_whose_format_is_unclear_is_refused(
    client: Client, exportable: Job, tmp_path: Path, name: str, format: str | None, said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        client.job(exportable.job_id).best().export(tmp_path / name, format=format)  # type: ignore[arg-type]


def test_an_artifact_is_downloaded_whole(client: Client, exportable: Job, tmp_path: Path) -> None:
    (info,) = [a for a in client.job(exportable.job_id).artifacts() if a.kind == "onnx"]
    file = client.download(info.artifact_id, tmp_path / "a.zip")
    assert file.stat().st_size == info.size_bytes
    with pytest.raises(ExportError, match="exists already"):
        client.download(info.artifact_id, file)


def test_a_full_disk_is_said_clearly(client: Client, exportable: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs the device that is always full")
    from nas.client._flows import Download
    from searchspaces import StorageFull

    with pytest.raises(StorageFull, match="no room left"):
        client._transport._download(Download(exportable.deliveries[0].artifacts["onnx"], Path("/dev/full")))


def test_every_violation_of_a_spec_arrives(client: Client) -> None:
    with pytest.raises(SpecError) as offline:
        client.submit({**SPEC, "colour": 1, "budget": {"evaluations": 0}})
    assert {v.field for v in offline.value.violations} == {"colour", "budget.evaluations"}
    with pytest.raises(SpecError) as answered:
        client.submit({**SPEC, "searcher": "nosuch", "constraints": ["colour <= 3"]})
    assert len(answered.value.violations) == 2


# --- async ------------------------------------------------------------------------------------------------------------


def test_the_async_client_does_the_same(running: Running, exportable: Job, tmp_path: Path) -> None:
    async def session() -> None:
        async with AsyncClient(running.url) as client:
            job = await client.job(exportable.job_id)
            assert (await job.wait(progress=False)).state is JobState.SUCCEEDED
            best = await job.best()
            assert (await best.export(tmp_path / "a.onnx")).read_bytes() == b"onnx"
            assert len(await job.candidates().to_pandas()) == 4
            assert await anext(job.events(after=1)) == [event async for event in job.events()][1]
            assert [e.sequence async for e in job.events(follow=True)] == [e.sequence async for e in job.events()]
            assert (await job.figure("pareto")).data
            assert "nasbench201" in {space.name for space in await client.spaces()}

    asyncio.run(session())


def test_the_async_client_submits_and_is_refused_likewise(running: Running) -> None:
    async def session() -> None:
        async with AsyncClient(running.url) as client:
            submitted = await client.submit(SPEC)
            assert (await submitted.cancel()).state is JobState.CANCELLED
            assert (await client.find_job("latest")).job_id == submitted.job_id
            with pytest.raises(SpecError):
                await client.submit({**SPEC, "searcher": "nosuch"})
            with pytest.raises(InvalidState):
                await submitted.pause()

    asyncio.run(session())


def test_both_clients_have_the_same_names() -> None:
    from nas import client as door

    for name in ("Client", "JobHandle", "CandidateHandle", "Work"):
        names = [{n for n in vars(getattr(door, p + name)) if not n.startswith("_")} for p in ("", "Async")]
        assert names[0] - names[1] == set()
        assert names[1] - names[0] <= {"open"}


def test_an_async_client_that_is_not_open_says_so() -> None:
    async def session() -> None:
        await AsyncClient("http://127.0.0.1:9").jobs()

    with pytest.raises(ServiceError, match="async with"):
        asyncio.run(session())


# --- the embedded service ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_an_address_a_service_is_started_and_ended(tmp_path: Path) -> None:
    with Client(folder=tmp_path) as client:
        url = client.url
        assert "nasbench201" in {space.name for space in client.spaces()}
    with Client(url) as after, pytest.raises(ServiceError, match="no service answers"):
        after.spaces()


def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ServiceError, match=r"did not start: .+"):
        Client(folder=tmp_path / "file")


def test_the_documentation_names_every_method_and_no_other() -> None:
    import re

    from nas import client as door
    from tests.conftest import ROOT

    text = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:\w+\.)?(\w+)\(", text)) | set(re.findall(r"`(\w+)`", text))
    public = {
        name
        for owner in (door.Client, door.JobHandle, door.CandidateHandle, door.CandidateList, *door.Work.__mro__[:2])
        for name in vars(owner)
        if not name.startswith("_")
    }
    called = set(re.findall(r"`\.?(?:\w+\.)?(\w+)\(", text))
    assert public - named - called - {"url"} == set()
    assert {name for name in called if name.islower()} - public == set()
