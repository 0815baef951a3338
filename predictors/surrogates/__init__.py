"""Models fitted on (architecture, value) pairs. PLUG-IN FOLDER: one predictor per file.

A plug-in's `create(config, encoder)` gives a `Predictor`; flags:

- `uses`: what of `predictors.encoding.Encoded` it reads: `blocks`, `scores`, `graphs`, `layers`.
- `min_labels`: with fewer it refuses.
- `exact`: True when neither the order of the examples nor the random stream changes what it predicts.
- `fidelities`: True when it learns from cheaper measurements too, as an `AcrossFidelities`.
- `quick`: where its defaults take more than about a second on thirty examples, settings that do not, for the contract:
  `("epochs=20", "width=16")`, the values as JSON.
"""

from predictors.surrogates._gaussian import MATERN, Parts
from predictors.surrogates._predictor import (
    AcrossFidelities,
    Prediction,
    Predictor,
    PredictorConfig,
    normal_scores,
    standardised,
)
from predictors.surrogates._weights import Normalisation, Query, RobotResult, ranking, robot_queries, robot_search
from searchspaces import Registry

REGISTRY: Registry[Predictor] = Registry(
    "predictors", "predictors.surrogates", {"uses": tuple, "min_labels": int, "exact": bool}
)

__all__ = [
    "MATERN",
    "REGISTRY",
    "AcrossFidelities",
    "Normalisation",
    "Parts",
    "Prediction",
    "Predictor",
    "PredictorConfig",
    "Query",
    "RobotResult",
    "normal_scores",
    "ranking",
    "robot_queries",
    "robot_search",
    "standardised",
]
