"""Checkpoints of one unit: `checkpoints/JOB/UNIT/NAME.aATTEMPT.SERIAL.safetensors`, the two newest kept."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from db._engine import os_error
from db._fence import Fence
from db._files import write_whole
from nas.ports import Checkpoint
from nas.resources import JsonObject
from searchspaces import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_KEPT = 2
_LENGTH = 8  # bytes of a safetensors file that say how long its header is


class _Generation(NamedTuple):
    """Ordered by attempt first: what a worker that lost its lease writes late never wins over its successor's."""

    attempt: int
    serial: int
    path: Path


class LeasedCheckpoints:
    """The checkpoints of a leased unit (`nas.ports.Checkpoints`)."""

    def __init__(self, fence: Fence, folder: Path) -> None:
        self._fence = fence
        self._folder = unit_folder(folder, fence.unit.job_id, fence.unit.unit_id)

    def save(self, name: str, tensors: Mapping[str, Tensor], meta: JsonObject) -> None:
        """Write a new generation atomically, and drop all but the two newest."""
        self._fence.check()
        generations = self._generations(name)
        serial = max((g.serial for g in generations), default=0) + 1
        attempt = self._fence.unit.attempt
        path = self._folder / f"{name}.a{attempt}.{serial}.safetensors"
        write_whole(path, [_packed(tensors, meta)])
        for generation in sorted([*generations, _Generation(attempt, serial, path)])[:-_KEPT]:
            generation.path.unlink(missing_ok=True)

    def load(self, name: str) -> Checkpoint | None:
        """The newest whole generation of any attempt; None when there is none at all."""
        self._fence.check()
        broken = None
        for generation in sorted(self._generations(name), reverse=True):
            try:
                return _unpacked(generation.path)
            except FileNotFoundError:
                continue
            except CheckpointError as error:
                broken = error
            except OSError as error:
                raise os_error(error, generation.path) from error
        if broken is not None:
            raise broken
        return None

    def drop(self, name: str) -> None:
        """Remove all generations of this name."""
        self._fence.check()
        for generation in self._generations(name):
            generation.path.unlink(missing_ok=True)

    def _generations(self, name: str) -> list[_Generation]:
        pattern = re.compile(rf"{re.escape(name)}\.a(\d+)\.(\d+)\.safetensors")
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        matches = ((pattern.fullmatch(path.name), path) for path in found)
        return [_Generation(int(match[1]), int(match[2]), path) for match, path in matches if match]


def unit_folder(folder: Path, job_id: str, unit_id: str) -> Path:
    """Where a unit's checkpoints lie."""
    return folder / "checkpoints" / job_id / unit_id


def discard(folder: Path, job_id: str, unit_id: str = "") -> None:
    """Remove the checkpoints of a unit, or of a whole job."""
    shutil.rmtree(unit_folder(folder, job_id, unit_id), ignore_errors=True)


def _packed(tensors: Mapping[str, Tensor], meta: JsonObject) -> bytes:
    """A safetensors file with `meta` and a checksum over it and the tensors in its header."""
    from safetensors.torch import save

    plain = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})
    header, data = _parted(plain)
    text = json.dumps(meta, separators=(",", ":"))
    checksum = hashlib.sha256(text.encode())
    checksum.update(data)
    header["__metadata__"] = {"meta": text, "checksum": checksum.hexdigest()}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % _LENGTH)
    return b"".join([len(head).to_bytes(_LENGTH, "little"), head, data])


def _unpacked(path: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = path.read_bytes()
    try:
        header, data = _parted(content)
        stored = header["__metadata__"]
        checksum = hashlib.sha256(stored["meta"].encode())
        checksum.update(data)
        if checksum.hexdigest() != stored["checksum"]:
            raise ValueError("its checksum does not match")
        return Checkpoint(load(content), json.loads(stored["meta"]))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {path} is cut short or broken ({error}): delete it to begin this step anew, or restore it"
        ) from error


def _parted(content: bytes) -> tuple[JsonObject, memoryview]:
    length = int.from_bytes(content[:_LENGTH], "little")
    header: JsonObject = json.loads(content[_LENGTH : _LENGTH + length])
    return header, memoryview(content)[_LENGTH + length :]
