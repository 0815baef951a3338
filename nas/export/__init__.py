"""Delivery: a network as files that run without this software, each held against the network it was made from.

The delivered model takes float32 images, 0 to 1, `batch x channels x height x width`, and gives logits,
`batch x classes`; the normalisation of its data set is inside.
"""

from nas.export._card import Card
from nas.export._export import TOLERANCE, archive, export_network, run_onnx, write_card, write_formats

__all__ = ["TOLERANCE", "Card", "archive", "export_network", "run_onnx", "write_card", "write_formats"]
