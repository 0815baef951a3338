"""A space whose encoding is not one of its options: every predictor that reads it would fail."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from searchspaces import Architecture, Plugin
from searchspaces.nasbench201 import OPTIONS, Config, NASBench201


class Numbered(NASBench201):
    def encode(self, architecture: Architecture) -> npt.NDArray[np.float32]:
        return np.array([OPTIONS.index(option) for _, option in architecture], dtype=np.float32)

    def encode_all(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([self.encode(self.parse(text)) for text in texts])


PLUGIN = Plugin("encoding", "A cell in six numbers.", "nobody", partial(Numbered), Config)
