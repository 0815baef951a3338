"""What preflight refuses, without the seconds of measuring."""

from __future__ import annotations

from nas.spec import JobSpec
from nas.stages._refusals import refuse_unfit, refuse_unmet
from nas.stages._survey import Survey
from nas.workbench import Workbench


def refuse_impossible(spec: JobSpec) -> None:
    """Raise what the preflight of a spec raises before it measures time and memory."""
    bench = Workbench(spec)
    refuse_unfit(spec, bench)
    if spec.constraints:
        refuse_unmet(Survey.of(spec, bench).unmet())
