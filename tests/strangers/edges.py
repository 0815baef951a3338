"""A space whose drawing has an edge with an option that no decision has."""

from __future__ import annotations

import networkx

from searchspaces import Architecture, Plugin
from searchspaces.nasbench201 import Config, NASBench201


class Stemmed(NASBench201):
    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        graph = super().graph(architecture)
        graph.add_node("stem", label="stem", layer=-1)
        graph.add_edge("stem", "0", option="stem 3x3", live=True, decision="stem")
        return graph


PLUGIN = Plugin("edges", "A cell with its stem.", "nobody", Stemmed, Config)
