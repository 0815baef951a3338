"""An evaluator that knows the first architecture only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas.evaluators import EvaluationContext, Evaluator, Outcome, Request
from nas.resources import Measurement
from nas.workbench import Workbench
from searchspaces import Config, Plugin


class Measuring(Evaluator):
    def __init__(self, config: Config, bench: Workbench) -> None:
        self.known: dict[str, float] = {}

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        for request in requests:
            value = self.known[request.architecture.text]
            measured = Measurement(metric="accuracy", value=value, fidelity=request.fidelity, context={})
            yield Outcome(request.evaluation_id, (measured,))


FLAGS = {"level": "full", "metrics": ("accuracy",), "needs_supernet": False, "needs_data": False}
PLUGIN = Plugin("measuring", "From memory.", "nobody", Measuring, flags=FLAGS)
