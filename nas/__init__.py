"""Neural architecture search: searching and training. Importing this loads no torch."""

from nas.resources import Candidate, Evaluation, Job, JobState, Measurement, ParetoFront
from nas.spec import JobSpec, PluginRef
from searchspaces import NASError

__all__ = [
    "Candidate",
    "Evaluation",
    "Job",
    "JobSpec",
    "JobState",
    "Measurement",
    "NASError",
    "ParetoFront",
    "PluginRef",
]
