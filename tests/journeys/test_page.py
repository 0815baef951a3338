"""The page in a real Chromium, over the real app and store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from db import Lease
from nas.reports import Choice, Contender, Estimate
from nas.resources import Delivery, EvaluationState, Fidelity, Job, Phase, PreflightReport, Proposal, Settlement
from searchspaces import REGISTRY as SPACES
from tests.api.conftest import Running, SearchOnly, measurement, service_with

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SPACE: Any = SPACES["nasbench201"]()
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    with service_with(tmp_path) as running:
        yield running


class Visit:
    """A tab, and everything that went wrong in it."""

    def __init__(self, browser: Browser, service: Running) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.url = service.url
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on(
            "request", lambda r: None if r.url.startswith((self.url, "data:", "blob:")) else self.leaves(r.url)
        )

    def leaves(self, url: str) -> None:
        self.problems.append(f"a request leaves the origin: {url}")

    def job(self, job: Job) -> Page:
        self.page.goto(f"{self.url}/#/jobs/{job.job_id}")
        return self.page


@pytest.fixture
def visit(browser: Browser, service: Running) -> Iterator[Visit]:
    made = Visit(browser, service)
    yield made
    made.page.close()
    assert made.problems == []


def settle(lease: Lease, first: int, count: int) -> None:
    """Settle `count` evaluations; accuracy and parameters grow together, so that each is on the front."""
    texts = [SPACE.at(number) for number in range(first, first + count)]
    proposals = [Proposal(text=a.text, digest=a.digest, fidelity=Fidelity(level="supernet")) for a in texts]
    accuracies = np.linspace(0.5, 0.9, 15_625)
    lease.journal.settle(
        [
            Settlement(
                evaluation_id=evaluation.evaluation_id,
                state=EvaluationState.FINISHED,
                measurements=(
                    measurement("accuracy", float(accuracies[first + i]), "supernet"),
                    measurement("params", 1000.0 + first + i, "cost"),
                ),
            )
            for i, evaluation in enumerate(lease.journal.propose(proposals))
        ]
    )
    lease.journal.progress(phase=Phase.SEARCH, evaluations_done=first + count, evaluations_total=200)
    lease.journal.event("evaluations", {"done": first + count, "total": 200, "front_size": first + count})


def searching(service: Running, count: int) -> tuple[Job, Lease]:
    job = service.submit()
    lease = service.lease()
    settle(lease, 0, count)
    return job, lease


def test_the_list_leads_to_a_job_and_its_front(service: Running, visit: Visit) -> None:
    job, _ = searching(service, 12)
    visit.page.goto(service.url)
    visit.page.get_by_role("link", name="small").click()
    expect(visit.page).to_have_url(f"{service.url}/#/jobs/{job.job_id}")
    expect(visit.page.locator("[data-tile=Front]")).to_contain_text("12")
    expect(visit.page.locator(".js-plotly-plot .scatterlayer")).to_be_visible()


def test_a_click_on_a_point_shows_its_graph_measurements_and_export(service: Running, visit: Visit) -> None:
    page = visit.job(searching(service, 12)[0])
    points = page.locator(".js-plotly-plot .scatterlayer .trace").last.locator(".points path")
    expect(points).to_have_count(12)
    points.nth(5).click(force=True)
    selected = page.locator("#selected")
    expect(selected.locator(".arch-text")).to_have_text(SPACE.at(5).text)
    expect(selected.locator("table.measurements")).to_contain_text("accuracy")
    expect(selected.locator(".drawing .js-plotly-plot")).to_be_visible()
    expect(selected.get_by_role("button", name="Export")).to_be_enabled()


def test_what_is_found_later_comes_without_a_reload(service: Running, visit: Visit) -> None:
    job, lease = searching(service, 4)
    page = visit.job(job)
    expect(page.locator("[data-tile=Front]")).to_contain_text("4")
    settle(lease, 4, 3)
    expect(page.locator("[data-tile=Front]")).to_contain_text("7")
    points = page.locator(".js-plotly-plot .scatterlayer .trace").last.locator(".points path")
    expect(points).to_have_count(7)


def test_the_table_is_sorted_by_any_metric(service: Running, visit: Visit) -> None:
    page = visit.job(searching(service, 12)[0])
    rows = page.locator("#candidates tbody tr:not(.spacer)")
    expect(rows.first).to_contain_text(SPACE.at(11).text)
    header = page.locator("#candidates th", has_text="params").get_by_role("button")
    header.click()
    expect(page.locator("#candidates th", has_text="params")).to_have_attribute("aria-sort", "ascending")
    expect(rows.first).to_contain_text(SPACE.at(0).text)


def test_only_legal_verbs_are_offered_and_they_work(service: Running, visit: Visit) -> None:
    job, _ = searching(service, 4)
    page = visit.job(job)
    expect(page.locator("[data-verb=resume]")).to_have_count(0)
    page.locator("[data-verb=pause]").click()
    expect(page.locator("[data-verb=pause]")).to_have_count(0)
    assert service.store.job(job.job_id).state in ("PAUSING", "PAUSED")


def test_trust_is_worked_out_on_demand_and_the_training_is_drawn_in_three_rows(service: Running, visit: Visit) -> None:
    job, lease = searching(service, 4)
    side = {"variance": 1.0, "variance_error": 0.1, "noise_share": 0.5, "noise_share_error": 0.1}
    noise = {"data": side, "paths": side, "pairs": 3, "seconds": 0.1}
    speed = {"seconds": 1.0, "step_ms": 20.0, "images_per_second": 900.0, "distinct_share": 0.9}
    for number in (1, 2):
        lease.journal.event("epoch", {"epoch": number, "epochs": 2, "loss": 1.0 / number, "gradient": noise, **speed})
    page = visit.job(job)
    page.get_by_role("button", name="Work it out now").click()
    expect(page.locator("#trust .verdict")).to_contain_text("too few: 0 audited networks")
    page.get_by_role("tab", name="Training").click()
    drawn = page.locator("#chart-training")
    expect(drawn.locator(".errorbars .yerror")).to_have_count(4)
    expect(drawn.locator(".legendtext", has_text="gradient noise from paths")).to_be_visible()


def test_the_waiting_time_and_what_the_time_left_out_are_said(service: Running, visit: Visit) -> None:
    job = service.submit(budget={"wall_time": "10m"})
    visit.page.wait_for_timeout(1100)
    lease = service.lease()
    page = visit.job(job)
    expect(page.locator(".job-head")).to_contain_text(re.compile(r"waited \d+(\.\d+)? s for a worker"))
    left_out = page.get_by_label("What the time of the job made it leave out")
    expect(left_out).to_be_hidden()
    lease.journal.plan(notes=["late, so the audit left out 3 of 30 networks"])
    lease.journal.progress(phase=Phase.SEARCH, evaluations_done=1)
    expect(left_out).to_have_text("late, so the audit left out 3 of 30 networks")


def test_an_unknown_job_is_said(service: Running, visit: Visit) -> None:
    visit.page.goto(f"{service.url}/#/jobs/job_nosuch")
    expect(visit.page.locator("main")).to_contain_text("job_nosuch")
    visit.problems[:] = [problem for problem in visit.problems if "404" not in problem]  # the browser logs the answer


def test_a_job_that_trains_nothing_shows_what_it_does_only(service: Running, visit: Visit) -> None:
    measured = {"name": "external", "config": {"metrics": {"accuracy": "full"}}}
    job = service.submit(dataset=None, evaluator=measured)
    lease = service.lease()
    settle(lease, 0, 12)
    lease.journal.report(PreflightReport(space_size=15_625, costs=(), satisfiable=True))
    page = visit.job(job)
    expect(page.locator("#preflight")).to_contain_text("15,625")
    expect(page.locator(".stepper li:visible")).to_contain_text(["Preflight", "Search"])
    expect(page.locator(".stepper li:visible")).to_have_count(2)
    expect(page.get_by_role("tab")).to_have_text(["Pareto front", "Hypervolume"])
    for absent in ("#deliveries", "#trust", "[data-tile=Epochs]:visible", "[data-tile=Delivered]:visible"):
        expect(page.locator(absent)).to_have_count(0)
    expect(page.locator(".job-head")).not_to_contain_text("undefined")
    page.locator("#candidates tbody tr:not(.spacer)").first.click()
    expect(page.locator("#selected .arch-text")).to_contain_text("|")
    expect(page.get_by_role("button", name="Export")).to_have_count(0)


def test_a_job_without_a_supernet_shows_no_step_of_one_and_is_done_but_not_delivered(
    service: Running, visit: Visit
) -> None:
    job, lease = service.submit(evaluator="standalone", deliver={"networks": 0}), service.lease()
    settle(lease, 0, 4)
    busy = (Phase.PREFLIGHT, Phase.SEARCH)
    lease.journal.report(PreflightReport(space_size=15_625, costs=(), satisfiable=True, phases=busy))
    page = visit.job(job)
    expect(page.locator("#preflight")).to_contain_text("15,625")
    expect(page.locator(".stepper li:visible")).to_have_text([re.compile("Preflight"), re.compile("Search")])
    expect(page.get_by_role("tab")).to_have_text(["Pareto front", "Hypervolume"])
    page.locator("#candidates tbody tr:not(.spacer) button").first.click()
    expect(page.get_by_text("inherited, at once")).to_be_hidden()
    expect(page.locator("[name=weights]:checked")).to_have_value("trained")
    lease.complete({})
    worker = service.store.register_worker("tests", 1, "cpu")
    assert service.store.claim(worker.worker_id, lease_seconds=60, planner=SearchOnly()) is None
    page.goto(f"{service.url}/#/jobs")
    expect(page.locator("main")).to_contain_text("Done")
    expect(page.locator("main")).not_to_contain_text("Delivered")


def test_what_was_chosen_and_by_what_is_said_and_leads_to_the_candidate(service: Running, visit: Visit) -> None:
    job, lease = searching(service, 12)
    best, other = (SPACE.at(number) for number in (3, 7))
    known = {"number": 3, "std": 0.007, "values": {"params@cost": 1003.0}}
    first = Estimate(digest=best.digest, text=best.text, mean=0.981, basis="audited", on_front=True, **known)
    second = Estimate(digest=other.digest, text=other.text, mean=0.97, basis="predicted", **known)
    choice = Choice(
        metric="accuracy",
        level="short",
        direction="max",
        reason="audited accuracy 0.981 ± 0.007",
        warning="this is a warning",
        estimates=(first, second),
    )
    lease.journal.report(choice)
    contenders = tuple(
        Contender(digest=a.digest, text=a.text, epochs=15, value=value, mean=value, won=a is best)
        for a, value in ((best, 0.98), (other, 0.97))
    )
    lease.journal.report(
        Delivery(
            digest=best.digest,
            text=best.text,
            weights="trained",
            metrics={"test_accuracy": 0.979},
            measured_with="onnxruntime, model.onnx, fp32",
            chosen="audited accuracy 0.981 ± 0.007",
            contenders=contenders,
        )
    )
    page = visit.job(job)
    chosen = page.locator("#choice")
    expect(chosen).to_contain_text("Chosen by audited accuracy 0.981 ± 0.007.")
    expect(chosen).to_contain_text("Warning: this is a warning.")
    expect(chosen.locator("tbody tr")).to_have_count(2)
    expect(page.locator("#deliveries")).to_contain_text("Measured with onnxruntime, model.onnx, fp32.")
    expect(page.locator("#deliveries")).to_contain_text("Won against one other")
    chosen.get_by_role("button", name=best.digest[:10]).click()
    expect(page.locator("#selected .arch-text")).to_have_text(best.text)


def test_many_candidates_leave_the_page_light(service: Running, visit: Visit) -> None:
    """All 15,625 of the space; rows of the table are made for what is seen only."""
    job, lease = searching(service, 100)
    for first in range(100, 15_600, 500):
        settle(lease, first, 500)
    page = visit.job(job)
    expect(page.locator("#candidates tbody tr:not(.spacer)").first).to_be_visible()
    box = page.locator("#candidates .rows")
    for _ in range(12):
        box.evaluate("box => box.scrollBy(0, 3000)")
        page.wait_for_timeout(100)
    assert page.locator("#candidates tbody tr").count() < 300
    expect(page.locator(".js-plotly-plot .scatterlayer")).to_be_visible()
