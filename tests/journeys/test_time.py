"""A job that is given a time instead of numbers, as a user meets it: real server, real worker, real training."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nas.client import Client
from nas.resources import JobState
from tests.journeys.processes import server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 90.0
IN_TIME = {
    "name": "in-time",
    "space": {"name": "nasbench201", "config": {"channels": 4, "cells_per_stage": 1}},
    "dataset": "digits",
    "objectives": {"accuracy": "max", "params": "min"},
    "supernet": {"recipe": "pada", "batch_size": 128},
    "budget": {"wall_time": SECONDS},
    "deliver": {"networks": 1, "formats": ["pytorch", "onnx"]},
}


def test_a_job_with_a_time_ends_with_it_and_delivers(tmp_path: Path) -> None:
    loads = list[float]()
    with server(tmp_path) as service, Client(service.url) as client:
        handle = client.submit(IN_TIME)
        while not handle.refresh().state.is_terminal:
            loads.append(os.getloadavg()[0])
            time.sleep(1)
        job = handle.job
    assert job.state is JobState.SUCCEEDED, job.reason
    plan = job.plan
    assert plan is not None
    share = job.spent.wall_seconds / SECONDS
    # What is promised is 0.8 to 1.05. A machine that becomes busy after the final training began makes the end of the
    # job late, and its export cannot be planned shorter; so a test that shares its cores with others holds less.
    is_busy = max(loads) > (os.cpu_count() or 1)
    said = f"{share:.3f} of {SECONDS:g} s, load {max(loads):.1f}; {plan.model_dump_json(exclude={'audited'})}"
    print(said)
    assert (0.6 if is_busy else 0.8) <= share <= (1.5 if is_busy else 1.05), said
    assert (plan.promises, plan.given) == ("time", ())
    assert len(job.deliveries) == 1
    # A final training that begins late is cut down, to one epoch where need be; it is then above chance, which is 0.1.
    assert job.deliveries[0].metrics["test_accuracy"] > (0.15 if is_busy else 0.5)
