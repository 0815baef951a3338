"""A network as ONNX, as a torch.export program, and as PyTorch source with its weights: bytes, nothing on disk."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence

import onnx
import safetensors.torch
import torch
from torch import Tensor, nn

from nas.export._source import network_source
from predictors.runtimes import quiet
from searchspaces import ExportError


class Deliverable(nn.Module):
    """Images, 0 to 1, `batch x channels x height x width` -> logits, `batch x classes`; normalises inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not all(value > 0 for value in std) or len(mean) != len(std):
            raise ExportError(f"mean {tuple(mean)} and std {tuple(std)} must have one value per channel, std above 0.")
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def exported_program(deliverable: Deliverable, images: Tensor) -> torch.export.ExportedProgram:
    """The traced program; the batch dimension is free.

    Raises:
        ExportError: the network cannot be traced.
    """
    # A batch of one would be traced as the constant 1.
    example = images[:2] if len(images) > 1 else images.repeat(2, 1, 1, 1)
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}}
    with quiet(), _failures("torch_export"):
        return torch.export.export(deliverable, (example,), dynamic_shapes=shapes, strict=False)


def program_bytes(program: torch.export.ExportedProgram) -> bytes:
    """The program as `torch.export.load` reads it."""
    buffer = io.BytesIO()
    with quiet(), _failures("torch_export"):
        torch.export.save(program, buffer)
    return buffer.getvalue()


def onnx_bytes(program: torch.export.ExportedProgram, class_names: Sequence[str]) -> bytes:
    """The program as one ONNX file with its weights inside: input `images`, output `logits`."""
    with quiet(), _failures("onnx"):
        converted = torch.onnx.export(
            program, dynamo=True, input_names=["images"], output_names=["logits"], verbose=False, optimize=True
        )
        if converted is None:
            raise ExportError("torch.onnx gave no program.")
        proto = converted.model_proto
    _name_batch(proto)
    entry = proto.metadata_props.add()
    entry.key, entry.value = "class_names", json.dumps(list(class_names))
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _name_batch(proto: onnx.ModelProto) -> None:
    """Call the free axis `batch`, which torch names after its symbol (`s34`)."""
    graph = proto.graph
    symbols = {graph.input[0].type.tensor_type.shape.dim[0].dim_param} - {""}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_param = "batch"


def source_files(
    deliverable: Deliverable, input_shape: Sequence[int], class_names: tuple[str, ...], card: Mapping[str, object]
) -> dict[str, bytes]:
    """`model.py` and `weights.safetensors`."""
    with quiet():
        source = network_source(deliverable, tuple(input_shape), class_names, card)
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in source.weights.items()}
    return {
        "model.py": source.text.encode(),
        "weights.safetensors": safetensors.torch.save(weights, metadata={"format": "pt"}),
    }


@contextlib.contextmanager
def _failures(name: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, LookupError, ImportError) as error:
        if isinstance(error, ExportError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"the network cannot be exported as {name}: {reason}") from error
