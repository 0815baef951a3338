"""AZ-NAS: expressivity, progressivity, trainability and size, ranked together."""

from __future__ import annotations

from predictors.zerocost._proxy import Vote, properties
from searchspaces import Config, Plugin


class AzNas(Vote):
    """Sum over four parts of log(rank / N) among N networks."""

    parts = ("az_expressivity", "az_progressivity", "az_trainability", "flops")


def _create(config: Config) -> AzNas:
    return AzNas()


PLUGIN = Plugin(
    name="az_nas",
    description="Expressivity, progressivity, trainability and FLOPs, ranked together",
    source="Lee and Ham (2024), AZ-NAS, arXiv 2403.19232",
    create=_create,
    flags=properties(fails="weaker on NAS-Bench-101 than on NAS-Bench-201"),
)
