"""Run this on every device of yours: it measures what a search with the evaluator `external` proposes."""

import statistics
import timeit

import torch

from nas.client import Client

for work in Client().work("phone", idle=60):  # the service at NAS_URL; ends when nothing has come for a minute
    with work, torch.inference_mode():  # the claim is renewed meanwhile; an error in here is told as a failure
        network, image = work.build().eval(), torch.rand(1, *work.space.input_shape)
        seconds = timeit.repeat(lambda: network(image), number=1, repeat=25)[5:]  # noqa: B023
        work.post(phone_latency=1000 * statistics.median(seconds))
