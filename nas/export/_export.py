"""Writes a network in every asked format, checks each against the network, and packs them."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.export._card import card_files
from nas.export._files import storage_errors, write
from nas.export._formats import Deliverable, exported_program, onnx_bytes, program_bytes, source_files
from nas.export._parity import run_onnx as run_tensors
from nas.export._parity import run_program, run_source
from nas.spec import ExportFormat
from searchspaces import ExportError

TOLERANCE = 1e-4
Images = Tensor | npt.NDArray[np.uint8] | npt.NDArray[np.float32]
_CARD_FILES = ("README.md", "card.json", "reproduce.py")
_FORMAT_FILES: Mapping[ExportFormat, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "torch_export": ("model.pt2",),
    "pytorch": ("model.py", "weights.safetensors"),
}
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Work:
    """What is written: the model, the images it is checked on, and what is known of it."""

    deliverable: Deliverable
    images: Tensor
    class_names: tuple[str, ...]
    card: Mapping[str, object]

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        return exported_program(self.deliverable, self.images)


class _Logits(NamedTuple):
    one: Tensor  # 1 x classes
    all: Tensor  # batch x classes


def export_network(
    network: nn.Module,
    batch: Images,
    folder: Path,
    *,
    formats: Sequence[ExportFormat],
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str],
    card: Mapping[str, object],
) -> dict[str, float]:
    """`write_formats` and then `write_card`: for a network of which all is known before it is written.

    Returns:
        The largest absolute difference of the logits, by format.
    """
    parity = write_formats(
        network, batch, folder, formats=formats, mean=mean, std=std, class_names=class_names, card=card
    )
    write_card(folder, card, batch.shape[1:], class_names=class_names, parity=parity, num_images=len(batch))
    return parity


def write_formats(
    network: nn.Module,
    batch: Images,
    folder: Path,
    *,
    formats: Sequence[ExportFormat],
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str],
    card: Mapping[str, object],
) -> dict[str, float]:
    """Write `network` to `folder` in each of `formats`.

    Every file is run on `batch`, whole and on its first image alone, and its logits are held against those of
    `network` in float32 on the CPU. `network` itself is left as it is.

    Args:
        network: takes normalised images, `batch x channels x height x width`, gives logits `batch x classes`.
        batch: real images, `batch x channels x height x width`, uint8 or float 0 to 1.
        folder: made if needed; files of an earlier export in it are replaced.
        formats: what to write.
        mean, std: per channel, on the scale 0 to 1; become part of the delivered model.
        class_names: in the order of the logits.
        card: what is known of the network, see `Card`; `model.py` names its architecture.

    Returns:
        The largest absolute difference of the logits, by format.

    Raises:
        ExportError: the network cannot be written in a format, or the file does not equal it; that file is removed.
        StorageFull: no room is left; nothing half-written stays.
    """
    images = as_images(batch)
    work = _Work(Deliverable(_frozen(network), mean, std), images, tuple(class_names), card)
    wanted = _logits(work.deliverable, images, mean, std)
    if wanted.all.shape != (len(images), len(class_names)):
        raise ExportError(
            f"the network gives logits of shape {tuple(wanted.all.shape)}; expected one row for each of {len(images)} "
            f"images, one column for each of {len(class_names)} class names."
        )
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    parity: dict[str, float] = {}
    for name in formats:
        try:
            _write_format(name, folder, work)
            parity[name] = _difference(name, wanted, _run_format(name, folder, images))
        except BaseException:
            for file in _FORMAT_FILES[name]:
                (folder / file).unlink(missing_ok=True)
            raise
    return parity


def write_card(
    folder: Path,
    card: Mapping[str, object],
    input_shape: Sequence[int],
    *,
    class_names: Sequence[str],
    parity: Mapping[str, float],
    num_images: int,
) -> None:
    """Write the model card, for people and for programs, and the script that reproduces the network, to `folder`.

    Args:
        input_shape: `channels x height x width`.
        parity: what `write_formats` gave.
        num_images: on so many images.

    Raises:
        StorageFull: no room is left.
    """
    facts = card_files(
        card, input_shape, class_names=class_names, parity=parity, tolerance=TOLERANCE, num_images=num_images
    )
    for file, text in facts.items():
        write(folder / file, text.encode())


def run_onnx(file: Path, batches: Iterable[Images]) -> list[Tensor]:
    """Logits of a delivered ONNX file in onnxruntime on the CPU, for each batch of images, uint8 or 0 to 1.

    Raises:
        ExportError: it does not run.
    """
    return run_tensors(file, (as_images(batch) for batch in batches))


def archive(folder: Path, format: ExportFormat) -> Path:
    """Pack one format of an exported folder, with card and script, into `FORMAT.zip` in it; equal files, equal bytes.

    Raises:
        ExportError: the folder does not hold that format.
        StorageFull: no room is left.
    """
    names = (*_FORMAT_FILES[format], *_CARD_FILES)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ExportError(f"{folder} holds no {format} export ({', '.join(missing)} missing); export it first.")
    target = folder / f"{format}.zip"
    try:
        with storage_errors(target), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:
            for name in sorted(names):
                entry = zipfile.ZipInfo(name, date_time=_EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                entry.create_system = 3
                packed.writestr(entry, (folder / name).read_bytes())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def as_images(batch: Images) -> Tensor:
    """Images as the delivered model takes them: float32, 0 to 1, on the CPU, `batch x channels x height x width`."""
    if batch.ndim != 4 or not len(batch):
        raise ExportError(f"the batch has shape {tuple(batch.shape)}; expected images x channels x height x width.")
    images = torch.as_tensor(batch).detach().to("cpu")
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if not (images.amin() >= 0 and images.amax() <= 1):
        raise ExportError("the batch has values outside 0 to 1; give images before normalisation, uint8 or 0 to 1.")
    return images.contiguous()


def _frozen(network: nn.Module) -> nn.Module:
    frozen: nn.Module = copy.deepcopy(network).to(device="cpu", dtype=torch.float32).eval().requires_grad_(False)
    for parameter in frozen.parameters():
        parameter.data = parameter.data.contiguous()  # training may have left them channels_last
    for name, module in frozen.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is None:
            raise ExportError(f"{name} normalises by the statistics of its batch; fix them first (recalibrate it).")
    return frozen


def _logits(deliverable: Deliverable, images: Tensor, mean: Sequence[float], std: Sequence[float]) -> _Logits:
    shift, scale = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
    with torch.no_grad():
        normalised = (images - shift) / scale
        logits = _Logits(deliverable.network(normalised[:1]), deliverable.network(normalised))
    if not torch.isfinite(logits.all).all():
        raise ExportError("the logits of the network are not finite on the given images.")
    return logits


def _write_format(name: ExportFormat, folder: Path, work: _Work) -> None:
    if name == "pytorch":
        files = source_files(work.deliverable, work.images.shape[1:], work.class_names, work.card)
    elif name == "onnx":
        files = {"model.onnx": onnx_bytes(work.program, work.class_names)}
    else:
        files = {"model.pt2": program_bytes(work.program)}
    for file, content in files.items():
        write(folder / file, content)


def _run_format(name: ExportFormat, folder: Path, images: Tensor) -> _Logits:
    run = {"onnx": run_tensors, "torch_export": run_program, "pytorch": run_source}[name]
    return _Logits(*run(folder / _FORMAT_FILES[name][0], [images[:1], images]))


def _difference(name: str, wanted: _Logits, found: _Logits) -> float:
    largest = 0.0
    for expected, given in zip(wanted, found, strict=True):
        if expected.shape != given.shape:
            raise ExportError(f"{name} gives logits of shape {tuple(given.shape)}; expected {tuple(expected.shape)}.")
        difference = float((expected - given).abs().max())
        if not difference <= TOLERANCE:  # catches NaN too
            raise ExportError(
                f"{name} differs from the network by {difference:.3g} in a logit (batch of {len(expected)}); "
                f"at most {TOLERANCE:g} is allowed, so the file was removed."
            )
        largest = max(largest, difference)
    return largest
