"""The loop of a device: claims, renews, posts, fails, gives back; against a real service."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nas.claims import LONGEST_ERROR, Answer, Offer
from nas.client import AsyncClient, Client
from nas.client import _work as work_module
from nas.resources import Evaluation, Fidelity, Proposal
from searchspaces import REGISTRY as SPACES
from searchspaces import MeasurementError, NotFound, ServiceError
from tests.api.conftest import TEXTS, Running, digest_of, service_with

LEASE = 0.4
METRICS = {"accuracy": "full", "phone_latency": "cost"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with service_with(tmp_path / "store") as found:
        yield found


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.url) as found:
        yield found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "_POLL_SECONDS", (0.02, 0.1))


class Search:
    """A search that offers evaluations of real architectures to phones."""

    def __init__(self, running: Running, number: int, *, lease_seconds: float = 60.0) -> None:
        running.submit()
        self.running, self.lease = running, running.lease()
        proposals = [Proposal(text=t, digest=digest_of(t), fidelity=Fidelity(level="full")) for t in TEXTS[:number]]
        self.evaluations = self.lease.journal.propose(proposals)
        self.lease.exchange.offer([self._offer(e, lease_seconds) for e in self.evaluations])

    def _offer(self, evaluation: Evaluation, lease_seconds: float) -> Offer:
        space = SPACES["nasbench201"]({"channels": 2, "cells_per_stage": 1})
        return Offer(
            evaluation_id=evaluation.evaluation_id,
            target="phone",
            space={"name": space.name, "config": space.config.model_dump(mode="json")},
            options=dict(space.parse(evaluation.proposal.text).options),
            metrics=METRICS,  # type: ignore[arg-type]
            seed=5,
            lease_seconds=lease_seconds,
            attempts=9,
        )

    @property
    def answers(self) -> list[Answer]:
        return self.lease.exchange.collect([e.evaluation_id for e in self.evaluations])


def test_the_loop_measures_everything_once_and_ends_when_idle(running: Running, client: Client) -> None:
    search, seen = Search(running, 3), []
    for work in client.work("phone", worker="pixel", idle=0.1):
        seen.append(work.architecture.text)
        assert work.post(accuracy=0.9, phone_latency=len(seen), std={"phone_latency": 0.5}, context={"os": "14"})
    assert seen == list(TEXTS[:3])
    assert [answer.measurements["phone_latency"] for answer in search.answers] == [1, 2, 3]
    assert {(a.std["phone_latency"], a.context["os"]) for a in search.answers} == {(0.5, "14")}


def test_what_is_claimed_can_be_built(running: Running, client: Client) -> None:
    import torch

    Search(running, 1)
    work = next(client.work("phone"))
    assert work.architecture == work.space.parse(TEXTS[0])
    assert work.build()(torch.zeros(1, *work.space.input_shape)).shape == (1, 10)
    weights = [torch.cat([p.flatten() for p in work.build().parameters()]) for _ in range(2)]
    assert torch.equal(*weights)


def test_an_error_of_the_body_is_a_failure_and_the_loop_goes_on(
    running: Running, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    search = Search(running, 3)
    with caplog.at_level(logging.WARNING, "nas.client"):
        for number, work in enumerate(client.work("phone", idle=0.1)):
            with work:
                if number == 1:
                    raise OSError("the phone ran hot")
                work.post(accuracy=float("nan") if number == 2 else 0.9, phone_latency=1)
    errors = [answer.error for answer in search.answers]
    assert errors[:2] == [None, "OSError: the phone ran hot"]
    assert "accuracy is nan; post a finite number" in str(errors[2])
    assert "the phone ran hot" in caplog.text


def test_an_error_that_is_long_or_no_utf8_is_told_all_the_same_and_the_loop_goes_on(
    running: Running, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="nas.client")  # a report of the test could not be written with these
    search, said = Search(running, 3), ["\udcff" + "x" * 50_000, "\udcff\0" * 2, "y" * LONGEST_ERROR]
    for message, work in zip(said, client.work("phone", idle=0.1), strict=True):
        with work:
            raise OSError(message)
    first, second, third = (str(answer.error) for answer in search.answers)
    assert first.startswith("OSError: \\udcffxxx")
    assert first.endswith("xxx…")
    assert second == "OSError: \\udcff\\udcff"
    assert third.endswith("yyy…")
    assert len(first) == len(third) == LONGEST_ERROR


def test_a_body_that_posts_nothing_is_a_failure(running: Running, client: Client) -> None:
    search = Search(running, 1)
    for _ in client.work("phone", idle=0.1):
        pass
    assert [answer.error for answer in search.answers] == ["the device posted no measurements"]


def test_a_failure_can_be_told_with_its_reason(running: Running, client: Client) -> None:
    search = Search(running, 1)
    for work in client.work("phone", idle=0.1):
        work.fail("does not fit into the flash")
    assert [answer.error for answer in search.answers] == ["does not fit into the flash"]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, OSError, None])
def test_a_loop_that_is_left_gives_its_evaluation_back(
    running: Running, client: Client, ending: type[BaseException] | None
) -> None:
    search = Search(running, 1)

    def loop() -> None:
        for _ in client.work("phone"):
            if ending:
                raise ending
            break

    if ending:
        with pytest.raises(ending):
            loop()
    else:
        loop()
    assert search.answers == []
    assert next(client.work("phone", idle=0.1)).claim.attempt == 2


def test_an_interrupted_block_gives_its_evaluation_back(running: Running, client: Client) -> None:
    search = Search(running, 1)
    working = client.work("phone")
    with pytest.raises(KeyboardInterrupt), next(working) as work:
        raise KeyboardInterrupt
    assert work.is_done
    assert search.answers == []
    assert next(client.work("phone", idle=0.1)).claim.attempt == 2


def test_wrong_metrics_end_the_loop_and_lose_nothing(running: Running, client: Client) -> None:
    search = Search(running, 1)
    working = client.work("phone")
    with pytest.raises(ServiceError) as refused, next(working) as work:
        work.post(acc=0.9, phone_latency=1)
    assert refused.value.code == "INVALID_MEASUREMENTS"
    assert [v.field for v in refused.value.violations] == ["measurements.acc", "measurements.accuracy"]
    assert search.answers == []
    assert next(client.work("phone")).claim.attempt == 2


def test_a_claim_is_renewed_while_the_body_runs(running: Running, client: Client) -> None:
    Search(running, 1, lease_seconds=LEASE)
    work = next(working := client.work("phone"))
    time.sleep(2.5 * LEASE)
    assert not work.is_lost
    assert work.post(accuracy=0.9, phone_latency=1)
    working.close()


def test_a_claim_that_was_lost_is_given_up_quietly(running: Running, client: Client) -> None:
    search = Search(running, 1, lease_seconds=LEASE)
    work = next(working := client.work("phone"))
    running.store.act(search.lease.job_id, "cancel")
    deadline = time.monotonic() + 10
    while not work.is_lost and time.monotonic() < deadline:
        time.sleep(0.02)
    assert work.is_lost
    assert work.post(accuracy=0.9, phone_latency=1) is False
    working.close()


def test_the_loop_of_a_job_ends_with_the_job(running: Running, client: Client) -> None:
    search = Search(running, 1)
    seen = []
    for work in client.work(job=search.lease.job_id):
        seen.append(work)
        work.post(accuracy=0.9, phone_latency=1)
        search.lease.complete({})
        running.store.act(search.lease.job_id, "cancel")
    assert len(seen) == 1
    with pytest.raises(NotFound):
        next(client.work(job="job_none"))
    with pytest.raises(ServiceError, match="target or job_id"):
        next(client.work())


class Restarting(httpx.BaseTransport):
    """A service that nobody answers for, for some requests to one kind of address."""

    def __init__(self, path: str, times: int) -> None:
        self.inner, self.path, self.left = httpx.HTTPTransport(), path, times

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.left and request.url.path.endswith(self.path):
            self.left -= 1
            raise httpx.ConnectError("refused")
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize("path", ["/claim", "/measurements"])
def test_a_restart_of_the_service_loses_nothing(running: Running, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr("nas.client._transport._DELAYS", (0.01,))
    search = Search(running, 2)
    with Client(running.url, transport=Restarting(path, 5)) as client:
        for work in client.work("phone", idle=0.1):
            work.post(accuracy=0.9, phone_latency=1)
    assert [answer.error for answer in search.answers] == [None, None]


def test_a_value_that_is_no_number_is_refused_before_it_is_sent(running: Running, client: Client) -> None:
    Search(running, 1)
    work = next(client.work("phone"))
    with pytest.raises(MeasurementError, match="phone_latency is inf"):
        work.post(accuracy=0.9, phone_latency=float("inf"))


def test_the_loop_runs_in_an_event_loop_too(running: Running) -> None:
    search = Search(running, 4, lease_seconds=LEASE)

    async def measure() -> list[str]:
        seen = []
        async with AsyncClient(running.url) as client:
            async for work in client.work("phone", worker="pixel", idle=0.1):
                async with work:
                    seen.append(work.architecture.text)
                    if len(seen) == 2:
                        raise OSError("too hot")
                    if len(seen) == 3:
                        continue
                    await asyncio.sleep(1.5 * LEASE)
                    assert await work.post(accuracy=0.9, phone_latency=1)
        return seen

    assert asyncio.run(measure()) == list(TEXTS[:4])
    errors = [answer.error for answer in search.answers]
    assert errors == [None, "OSError: too hot", "the device posted no measurements", None]


def test_an_event_loop_that_is_left_gives_its_evaluation_back(running: Running) -> None:
    Search(running, 1)

    async def leave() -> int:
        async with AsyncClient(running.url) as client:
            first = client.work("phone")
            await anext(first)
            await first.aclose()  # type: ignore[attr-defined]
            work = await anext(client.work("phone"))
            await work.fail("enough")
            return work.claim.attempt

    assert asyncio.run(leave()) == 2
