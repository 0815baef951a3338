"""Fused operations for training-mode networks: compiled for the machine at first use, plain torch elsewhere.

A node of a network is a sum of batch-normalised convolutions and plain tensors, rectified for the convolutions that
read it. Inside `fused()`, and where `kernel_mode()` is `fused`, such a node is one operation with one gradient (see
`_kernels.cpp`); everywhere else it is the same sum of torch's own operations. Equal up to rounding.

Inside `fused(per_sample=True)` every sample is normalised by its own statistics, as if it were a batch of its own; with
that come the sums of signs of each sample's own gradients.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("_kernels.cpp")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-fopenmp")
_DTYPES = {torch.float32: 0, torch.bfloat16: 1}
_wanted: ContextVar[bool] = ContextVar("fused_kernels", default=False)
_per_sample: ContextVar[bool] = ContextVar("statistics_per_sample", default=False)

Normalised = tuple[Tensor, nn.BatchNorm2d]
"""What a convolution gives, `batch x channels x height x width`, and the normalisation that follows it."""


@contextmanager
def fused(enabled: bool = True, *, per_sample: bool = False) -> Iterator[None]:
    """Inside, networks that are made for it run fused operations where the machine has them. First order only.

    Args:
        per_sample: nodes normalise every sample by its own statistics, whatever the mode of their normalisations, whose
            running statistics are neither read nor written and whose scales get no gradient.
    """
    tokens = _wanted.set(enabled), _per_sample.set(per_sample)
    try:
        yield
    finally:
        _wanted.reset(tokens[0])
        _per_sample.reset(tokens[1])


def is_fused() -> bool:
    """Whether this runs inside `fused()`; what is fused there still depends on the machine and on the tensors."""
    return _wanted.get()


def kernel_mode(device: torch.device) -> str:
    """What runs inside `fused()` on a device: `fused`, or `eager` where there is no compiler or no kernel for it."""
    return "fused" if device.type == "cpu" and _library() is not None else "eager"


def kernel_build(device: torch.device) -> str:
    """The mode, and for fused operations the digest of the library: only the same one repeats bit for bit."""
    library = _library() if device.type == "cpu" else None
    return "eager" if library is None else f"fused {hashlib.sha256(Path(library._name).read_bytes()).hexdigest()[:12]}"


class Signal:
    """What flows between the nodes of a network: a value, `batch x channels x height x width`, and its positive part.

    Each is made when it is first asked for, and once. Never an argument or a result of a module that is called:
    whoever looks at a network by hooks expects tensors there.
    """

    def __init__(self, value: Tensor | None, rectified: Tensor | None = None) -> None:
        self._value, self._rectified = value, rectified
        self._pooled: Tensor | None = None

    def value(self) -> Tensor:
        assert self._value is not None, "this node was made without its value"
        return self._value

    def rectified(self) -> Tensor:
        """max(value, 0)."""
        if self._rectified is None:
            self._rectified = F.relu(self.value())
        return self._rectified

    def pooled(self) -> Tensor:
        """The 3x3 average of the value, borders not counted; same shape."""
        if self._pooled is None:
            self._pooled = average_3x3(self.value())
        return self._pooled


def node(
    normalised: Sequence[Normalised], plain: Sequence[Tensor] = (), *, value: bool = True, rectified: bool = True
) -> Signal:
    """The sum of normalised convolutions and plain tensors, all of one shape; at least one of them.

    Args:
        value, rectified: which of the two will be read; the other may be left out.
    """
    if _can_fuse([y for y, _ in normalised] + list(plain), [norm for _, norm in normalised]):
        return Signal(*_fused_node(normalised, plain, value=value, rectified=rectified))
    terms = [_alone(y, norm) if _per_sample.get() else norm(y) for y, norm in normalised] + list(plain)
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return Signal(total)


def average_3x3(x: Tensor) -> Tensor:
    """The 3x3 average of x, `batch x channels x height x width`, borders not counted; same shape."""
    if _can_fuse([x], []):
        averaged: Tensor = _Average.apply(x)  # type: ignore[no-untyped-call]
        return averaged
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def normalised_alone(x: Tensor, norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    """What `norm` makes in training mode of every sample alone, x: `batch x channels x ...`; same shape.

    Running statistics are neither read nor written; the scales get no gradient where it is a fused operation.

    Raises:
        ValueError: x has one value per sample and channel.
    """
    if _per_sample.get() and isinstance(norm, nn.BatchNorm2d) and _can_fuse([x], [norm]):
        return Signal(*_fused_node([(x, norm)], (), value=True, rectified=False)).value()
    return _alone(x, norm)


def _alone(x: Tensor, norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    return F.instance_norm(x, weight=norm.weight, bias=norm.bias, use_input_stats=True, eps=norm.eps)


def _can_fuse(tensors: Sequence[Tensor], norms: Sequence[nn.BatchNorm2d]) -> bool:
    if not _wanted.get() or (library := _library()) is None or len(norms) > library.max_terms():
        return False
    first = tensors[0]
    return (
        first.dtype in _DTYPES
        and all(
            x.device.type == "cpu"
            and x.shape == first.shape
            and x.dtype == first.dtype
            and x.is_contiguous(memory_format=torch.channels_last)
            for x in tensors
        )
        and all(_is_fusable(norm) for norm in norms)
        # one value per channel is left to torch, which refuses it
        and (not norms or first.numel() > first.shape[1] * (first.shape[0] if _per_sample.get() else 1))
    )


def _is_fusable(norm: nn.BatchNorm2d) -> bool:
    """Normalises by the batch, or each sample by itself, and all that the kernels read and write of it is fp32."""
    scale, mean = norm.weight, norm.running_mean
    uses_batch = norm.training or mean is None or _per_sample.get()
    return uses_batch and all(tensor is None or tensor.dtype == torch.float32 for tensor in (scale, mean))


def _fused_node(
    normalised: Sequence[Normalised], plain: Sequence[Tensor], *, value: bool, rectified: bool
) -> tuple[Tensor | None, Tensor | None]:
    norms, alone = tuple(norm for _, norm in normalised), _per_sample.get()
    for norm in norms:
        if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None and not alone:
            norm.num_batches_tracked.add_(1)
    scales = [weight for norm in norms for weight in (norm.weight, norm.bias)]
    made: tuple[Tensor | None, Tensor | None] = _Node.apply(  # type: ignore[no-untyped-call]
        norms, (value, rectified), alone, len(plain), *(y for y, _ in normalised), *plain, *scales
    )
    return made


class _Node(torch.autograd.Function):
    """(convolved..., plain..., (gamma, beta)...) -> (value or None, rectified or None)."""

    @staticmethod
    def forward(ctx, norms, wanted, alone, num_plain, *tensors):  # type: ignore[no-untyped-def]
        num = len(norms)
        convolved, plain, scales = tensors[:num], tensors[num : num + num_plain], tensors[num + num_plain :]
        like = tensors[0]
        B, C, H, W = like.shape
        moments = torch.empty((2, num, B if alone else 1, C), dtype=torch.float32)
        value, rectified = (torch.empty_like(like) if want else None for want in wanted)
        tracks = [_tracks(norm) and not alone for norm in norms]
        _loaded().node_forward(
            _DTYPES[like.dtype],
            num,
            *((B, H * W) if alone else (0, B * H * W)),
            C,
            _pointers(convolved),
            num_plain,
            _pointers(plain),
            _pointers(scales[0::2]),
            _pointers(scales[1::2]),
            _pointers([norm.running_mean if track else None for norm, track in zip(norms, tracks, strict=True)]),
            _pointers([norm.running_var if track else None for norm, track in zip(norms, tracks, strict=True)]),
            (ctypes.c_float * num)(*(norm.eps for norm in norms)),
            (ctypes.c_float * num)(*(_momentum(norm) for norm in norms)),
            _pointer(moments[0]),
            _pointer(moments[1]),
            _pointer(value),
            _pointer(rectified),
        )
        ctx.save_for_backward(moments, rectified if rectified is not None else None, *convolved, *scales[0::2])
        ctx.num, ctx.num_plain, ctx.alone = num, num_plain, alone
        ctx.with_beta = [beta is not None and not alone for beta in scales[1::2]]
        ctx.set_materialize_grads(False)
        return value, rectified

    @staticmethod
    @once_differentiable
    def backward(ctx, of_value, of_rectified):  # type: ignore[no-untyped-def]
        num, num_plain = ctx.num, ctx.num_plain
        moments, rectified, *kept = ctx.saved_tensors
        convolved, gammas = kept[:num], kept[num:]
        of_value, of_rectified = (
            g if g is None else g.contiguous(memory_format=torch.channels_last) for g in (of_value, of_rectified)
        )
        like = of_value if of_value is not None else of_rectified
        B, C, H, W = like.shape
        is_direct = of_rectified is None  # then the gradient of a plain term is the one that came
        gradient = torch.empty_like(like) if num_plain and not is_direct else None
        gradients = [torch.empty_like(like) for _ in range(num)]
        of_gamma = [None if gamma is None or ctx.alone else torch.empty_like(gamma) for gamma in gammas]
        of_beta = [torch.empty(C) if has else None for has in ctx.with_beta]
        _loaded().node_backward(
            _DTYPES[like.dtype],
            num,
            *((B, H * W) if ctx.alone else (0, B * H * W)),
            C,
            _pointer(of_value),
            _pointer(of_rectified),
            _pointer(rectified),
            _pointers(convolved),
            _pointers(gammas),
            _pointer(moments[0]),
            _pointer(moments[1]),
            _pointer(gradient),
            _pointers(gradients),
            _pointers(of_gamma),
            _pointers(of_beta),
        )
        of_plain = of_value if is_direct else gradient
        of_scales = [g for pair in zip(of_gamma, of_beta, strict=True) for g in pair]
        return None, None, None, None, *gradients, *[of_plain] * num_plain, *of_scales


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return _average(x, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return _average(gradient.contiguous(memory_format=torch.channels_last), transposed=True)


def _average(x: Tensor, *, transposed: bool) -> Tensor:
    B, C, H, W = x.shape
    y = torch.empty_like(x)
    _loaded().average_3x3(_DTYPES[x.dtype], B, H, W, C, _pointer(x), _pointer(y), int(transposed))
    return y


def _tracks(norm: nn.BatchNorm2d) -> bool:
    return norm.training and norm.track_running_stats and norm.running_mean is not None


def _momentum(norm: nn.BatchNorm2d) -> float:
    if norm.momentum is not None:
        return norm.momentum
    return 1.0 / float(norm.num_batches_tracked) if norm.num_batches_tracked is not None else 0.0


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))


def _loaded() -> ctypes.CDLL:
    library = _library()
    assert library is not None, "asked for only where `_can_fuse`"
    return library


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be had: NAS_KERNELS=off, no compiler, another system than Linux."""
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if os.environ.get("NAS_KERNELS") == "off" or compiler is None or platform.system() != "Linux":
        return None
    try:
        file = _built(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        _log.warning(
            "%s cannot build the fused operations, networks run more slowly without: %s %s", compiler, error, said
        )
        return None
    try:
        # OpenMP's symbols are those that torch has loaded: one pool of threads, not two
        library = ctypes.CDLL(str(file))
    except OSError as error:
        file.unlink(missing_ok=True)  # the next process builds it anew
        _log.warning("the fused operations do not load, networks run more slowly without: %s", error)
        return None
    number, size, address = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    head = [number, number, size, size, size]
    library.node_forward.argtypes = [*head, address, number, *[address] * 11]
    library.node_backward.argtypes = [*head, *[address] * 11]
    library.average_3x3.argtypes = [number, *[size] * 4, address, address, number]
    library.sign_sums.argtypes = [number, number, *[address] * 4]
    library.sample_gradients.argtypes = [address] * 4
    library.sample_gradient_size.argtypes = [address]
    for function in (
        library.node_forward,
        library.node_backward,
        library.average_3x3,
        library.sign_sums,
        library.sample_gradients,
    ):
        function.restype = None
    library.sample_gradient_size.restype = size
    return library


def _built(compiler: str) -> Path:
    """The shared library for this source, compiler and processor; made once and kept in the user's cache folder."""
    version = subprocess.run(  # noqa: S603
        [compiler, "--version"], capture_output=True, check=True, timeout=60
    ).stdout
    parts = (_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), version, _processor())
    name = f"kernels-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}.so"
    folder = _cache_folder()
    if not (folder / name).exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made, objects = Path(scratch, name), Path(scratch, "kernels.o")
            # linked without -fopenmp: that would bring in a second OpenMP
            for command in (
                ["-c", str(_SOURCE), "-o", str(objects), *_FLAGS],
                ["-shared", str(objects), "-o", str(made)],
            ):
                subprocess.run([compiler, *command], capture_output=True, check=True, timeout=300)  # noqa: S603
            made.replace(folder / name)
    return folder / name


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "nas-service"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    made = Path(tempfile.mkdtemp(prefix="nas-service-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _processor() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return b"|".join(sorted({line for line in lines if line.startswith((b"model name", b"flags", b"Features"))}))
