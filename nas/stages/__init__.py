"""The stages of a job, one per file: what units of work a stage has, and how one is done."""

from nas.stages._apart import Limits, end_measuring
from nas.stages._audit import AuditStage
from nas.stages._context import Stage, UnitContext
from nas.stages._deliver import DeliverStage
from nas.stages._inputs import refuse_changed
from nas.stages._planned import ahead, planned
from nas.stages._preflight import PreflightStage, preflight
from nas.stages._score import ScoreStage
from nas.stages._search import SearchStage
from nas.stages._strangers import blamed
from nas.stages._supernet import SupernetStage
from nas.stages._trust import trust_report

__all__ = [
    "AuditStage",
    "DeliverStage",
    "Limits",
    "PreflightStage",
    "ScoreStage",
    "SearchStage",
    "Stage",
    "SupernetStage",
    "UnitContext",
    "ahead",
    "blamed",
    "end_measuring",
    "planned",
    "preflight",
    "refuse_changed",
    "trust_report",
]
