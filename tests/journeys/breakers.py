"""A third party's package whose plug-ins do what software should not: crash, grow, hang, and never look up."""

from __future__ import annotations

from pathlib import Path

_MODULE = """
import os, time
from typing import Any
from pydantic import Field
from nas.searchers._searcher import Searcher
from nas.searchers.random import PLUGIN as RANDOM
from predictors.costs._counted import Counted
from searchspaces import Config, Plugin


class HowConfig(Config):
    how: str = Field("crash", description="What it does.")


class Breaking(Counted):
    how = ""

    def measure(self, architecture):
        if self.how == "crash":
            os.abort()
        if self.how == "grow":
            self.held = [bytearray(2**26) for _ in range(2**10)]
        if self.how == "raise":
            return {}["layers"]
        if self.how == "hang":
            time.sleep(600)
        return super().measure(architecture)


def breaking(config, space, device="cpu"):
    made = Breaking(space, "params", live=False)
    made.how = config.how
    return made


class Stuck(Searcher):
    def ask(self, history, n, rng):
        open(os.environ["BREAKERS_SIGN"], "w").close()
        time.sleep(600)


class SlowConfig(Config):
    def model_post_init(self, context: Any) -> None:
        open(os.environ["BREAKERS_SIGN"], "w").close()
        time.sleep(600)


COST = Plugin(name="breaking", description="Breaks.", source="these tests", create=breaking, Config=HowConfig,
              flags={"measured": False, "needs_config": True})
STUCK = Plugin(name="stuck", description="Never proposes.", source="these tests",
               create=lambda config, space, objectives: Stuck(space, objectives), flags=RANDOM.flags)
SLOW = Plugin(name="slow", description="Is not configured for minutes.", source="these tests",
              create=RANDOM.create, Config=SlowConfig, flags=RANDOM.flags)
"""
_POINTS = """
[nas.costs]
breaking = breakers:COST
[nas.searchers]
stuck = breakers:STUCK
slow = breakers:SLOW
"""

SIGN = "BREAKERS_SIGN"


def installed(folder: Path) -> dict[str, str]:
    """The package in a folder, and the environment of processes that are to find it."""
    site = folder / "site"
    about = site / "breakers-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "breakers.py").write_text(_MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: breakers\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(_POINTS)
    return {"PYTHONPATH": str(site), SIGN: str(folder / "sign")}
