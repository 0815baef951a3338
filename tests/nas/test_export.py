"""A delivered network equals the one it was made from, in every format, and tells what it is."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from nas.export import TOLERANCE, Card, archive, export_network
from nas.export._expressions import constructor
from nas.spec import ExportFormat
from searchspaces import REGISTRY, ExportError, StorageFull

ALL: tuple[ExportFormat, ...] = ("onnx", "torch_export", "pytorch")
CLASSES = ("cat", 'do"g', "bird")
MEAN, STD = (0.3, 0.5), (0.2, 0.4)
CARD: Card = {
    "architecture": {"text": "|op~0|", "digest": "0123456789abcdef", "options": {"edge": "op"}},
    "space": {"name": "small", "config": {"channels": 4}},
    "weights": "trained",
    "metrics": {"test_accuracy@full": 0.98, "params@cost": 1234.0, "accuracy@supernet": 0.9},
    "measurements": [
        {
            "metric": "test_accuracy",
            "value": 0.98,
            "unit": "",
            "std": None,
            "fidelity": {"level": "full", "resources": {"epochs": 3}},
            "context": {"split": "test", "device": "cpu"},
        }
    ],
    "dataset": {"name": "digits", "digest": "abc"},
    "training": {"epochs": 3},
    "job": {"id": "job_1", "name": "digits", "spec": {"dataset": {"name": "digits", "config": {}}, "seed": 7}},
    "code": "0.1",
}


class Small(nn.Module):
    """Leaf modules, functions, methods, an own parameter, a module used twice, and one that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.edges = nn.ModuleList([nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, (3, 1), padding=(1, 0))])
        self.unused = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 0.5))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first = self.edges[0](x) * self.scale + x
        self.unused(x.mean(dim=(2, 3))[:, :3])
        second = F.avg_pool2d(self.edges[1](first), 3, stride=1, padding=1, count_include_pad=False)
        both = torch.cat([F.relu(first), self.edges[0](second) - 1.5], dim=1)
        logits: Tensor = self.head(both.mean([2, 3]).flatten(1))
        return logits


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Small()


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 2, 8, 8), dtype=np.uint8)


def export(net: nn.Module, folder: Path, *formats: ExportFormat, batch: object = None) -> dict[str, float]:
    given = images() if batch is None else batch
    return export_network(
        net,
        given,  # type: ignore[arg-type]
        folder,
        formats=formats,
        mean=MEAN,
        std=STD,
        class_names=CLASSES,
        card=CARD,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("exported") / "network"
    return folder, export(network(), folder, *ALL)


def test_every_format_equals_the_network(exported: tuple[Path, dict[str, float]]) -> None:
    _, parity = exported
    assert set(parity) == set(ALL)
    assert all(0 <= difference <= TOLERANCE for difference in parity.values())


def test_an_onnx_model_takes_images_from_0_to_1_in_any_number(exported: tuple[Path, dict[str, float]]) -> None:
    import onnxruntime

    folder, _ = exported
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    mean, std = (torch.tensor(values).view(1, 2, 1, 1) for values in (MEAN, STD))
    for count in (1, 3, 11):
        batch = torch.from_numpy(images(count)).float() / 255
        with torch.no_grad():
            expected = network().eval()((batch - mean) / std)
        (logits,) = session.run(None, {"images": batch.numpy()})
        np.testing.assert_allclose(logits, expected.numpy(), atol=TOLERANCE)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list(CLASSES)


def test_the_source_needs_torch_and_safetensors_only(exported: tuple[Path, dict[str, float]]) -> None:
    tree = ast.parse((exported[0] / "model.py").read_text())
    names = [a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names]
    names += [str(n.module) for n in tree.body if isinstance(n, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= {"torch", "safetensors", "sys", "pathlib"}


def test_the_source_leaves_out_what_cannot_reach_the_output(exported: tuple[Path, dict[str, float]]) -> None:
    weights = safetensors.torch.load_file(exported[0] / "weights.safetensors")
    assert "unused" not in (exported[0] / "model.py").read_text()
    assert {name.split(".")[0] for name in weights} == {
        *("mean", "std", "scale", "head"),
        *("stem_0", "stem_1", "edges_0", "edges_1"),
    }
    assert torch.equal(weights["edges_1.weight"], network().edges[1].weight)  # type: ignore[index, union-attr]


@pytest.mark.slow
def test_the_source_names_the_class_of_an_image(exported: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", images(1)[0])
    command = [sys.executable, "-P", "-I", str(exported[0] / "model.py"), str(tmp_path / "image.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=100)
    assert done.stdout.split()[0] in CLASSES
    assert 0 < float(done.stdout.split()[1]) <= 1


@pytest.mark.slow
def test_the_source_reads_an_image_as_a_viewer_shows_it_and_says_what_it_cannot_read(tmp_path: Path) -> None:
    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-I", str(tmp_path / "network" / "model.py"), str(tmp_path / name)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False)

    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    small, colours = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, len(CLASSES))), (0.5, 0.5, 0.5)
    export_network(
        small,
        pixels[None],
        tmp_path / "network",
        formats=["pytorch"],
        mean=colours,
        std=colours,
        class_names=CLASSES,
        card=CARD,
    )
    np.save(tmp_path / "image.npy", pixels)
    picture = Image.fromarray(pixels.transpose(1, 2, 0))
    picture.save(tmp_path / "image.png")
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    picture.rotate(180).save(tmp_path / "turned.png", exif=upside_down)
    assert run("image.png").stdout == run("turned.png").stdout == run("image.npy").stdout != ""
    (tmp_path / "broken.png").write_bytes(b"no image")
    np.save(tmp_path / "short.npy", pixels[..., 1:])
    for name in ("broken.png", "short.npy", "absent.jpg"):
        failed = run(name)
        assert failed.returncode == 1
        assert "cannot be read as images of 3 x 8 x 8" in failed.stderr
        assert "Traceback" not in failed.stderr


def test_the_free_axis_of_the_onnx_model_is_called_batch(exported: tuple[Path, dict[str, float]]) -> None:
    session = onnxruntime.InferenceSession(exported[0] / "model.onnx", providers=["CPUExecutionProvider"])
    assert [value.shape[0] for value in (*session.get_inputs(), *session.get_outputs())] == ["batch", "batch"]


def test_the_card_tells_metrics_with_level_and_split_data_and_weights(exported: tuple[Path, dict[str, float]]) -> None:
    readme = (exported[0] / "README.md").read_text()
    for told in (
        "| test_accuracy | 0.98 | full | test | device: cpu |",
        "| accuracy | 0.9 | supernet | valid |  |",
        "| params | 1234 | cost |  |  |",
        "|op~0|",
        "**trained**",
        "- digest: `abc`",
        "`batch x 2 x 8 x 8`",
        "model.onnx",
        "reproduce.py",
    ):
        assert told in readme
    card = json.loads((exported[0] / "card.json").read_text())
    assert card["parity"]["largest_difference"] == exported[1]
    assert card["class_names"] == list(CLASSES)
    assert card["architecture"] == CARD["architecture"]


def test_the_script_that_reproduces_it_holds_the_spec(exported: tuple[Path, dict[str, float]]) -> None:
    tree = ast.parse((exported[0] / "reproduce.py").read_text())
    values = {
        n.targets[0].id: ast.literal_eval(n.value)
        for n in tree.body
        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
    }
    assert values == {"ARCHITECTURE": "|op~0|", "SPEC": CARD["job"]["spec"]}


def test_archives_of_equal_exports_are_equal_bytes(exported: tuple[Path, dict[str, float]]) -> None:
    folder, _ = exported
    for name in ALL:
        first = archive(folder, name).read_bytes()
        for file in folder.glob("*.*"):
            file.touch()
        assert archive(folder, name).read_bytes() == first
        with zipfile.ZipFile(folder / f"{name}.zip") as packed:
            assert {"README.md", "card.json", "reproduce.py"} < set(packed.namelist())


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    net = network().to(memory_format=torch.channels_last).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export(net, tmp_path, "torch_export")
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_one_image_is_enough(tmp_path: Path) -> None:
    assert export(network(), tmp_path, "torch_export", batch=torch.from_numpy(images(1)).float() / 255)


class Counting(nn.Module):
    """Answers differently every time it is asked: no export can equal it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.head(x.mean((2, 3))) + self.calls * 0.001
        return logits


@pytest.mark.parametrize("name", ["torch_export", "pytorch"])
def test_a_file_that_differs_from_the_network_is_refused_and_removed(name: ExportFormat, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"differs from the network by 0\.00"):
        export(Counting(), tmp_path, name)
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = x + 1
        return F.pad(x.mean((2, 3)), (0, 1))


@pytest.mark.parametrize("name", ["torch_export", "pytorch"])
def test_a_network_that_branches_on_its_input_is_refused(name: ExportFormat, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be"):
        export(Branching(), tmp_path, name)


def test_statistics_of_the_batch_are_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(128, 3))
    with pytest.raises(ExportError, match="recalibrate"):
        export(net, tmp_path, "torch_export")


@pytest.mark.parametrize(
    "batch", [torch.full((2, 2, 8, 8), 1.5), torch.zeros(2, 8, 8), torch.full((2, 2, 8, 8), float("nan"))]
)
def test_images_that_are_none_are_refused(batch: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="batch"):
        export(network(), tmp_path, "torch_export", batch=batch)


def test_a_network_with_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="3 class names"):
        export(nn.Sequential(nn.Flatten(), nn.Linear(128, 4)), tmp_path, "torch_export")


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = network()
    nn.init.constant_(net.head.bias, float("inf"))  # type: ignore[union-attr, arg-type]
    with pytest.raises(ExportError, match="not finite"):
        export(net, tmp_path, "torch_export")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("file", ["model.pt2", "card.json"])
def test_a_full_disk_is_said_clearly(file: str, tmp_path: Path) -> None:
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(StorageFull, match="no room left"):
        export(network(), tmp_path, "torch_export")


def test_an_archive_of_a_format_that_is_not_there_is_refused(exported: tuple[Path, dict[str, float]]) -> None:
    with pytest.raises(ExportError, match="export it first"):
        archive(exported[0].parent, "onnx")


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(2, 4, (3, 1), stride=2, padding="valid", dilation=1, groups=2, bias=False, padding_mode="zeros"),
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(3, eps=1e-3, momentum=None, affine=False),
        nn.GroupNorm(2, 4, affine=False),
        nn.LayerNorm((3, 4), elementwise_affine=False),
        nn.Linear(3, 2, bias=False),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.AvgPool2d(2, count_include_pad=False),
        nn.AdaptiveAvgPool2d((1, None)),
        nn.Dropout(0.25, inplace=True),
        nn.ReLU6(inplace=True),
        nn.GELU(approximate="tanh"),
        nn.LeakyReLU(0.2),
        nn.Hardtanh(-2.0, float("inf")),
        nn.Flatten(1, 2),
        nn.Softmax(dim=1),
        nn.ZeroPad2d((1, 2, 0, 0)),
        nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True),
        nn.PReLU(3),
        nn.Identity(),
    ],
    ids=str,
)
def test_a_written_constructor_makes_an_equal_module(module: nn.Module) -> None:
    made = eval(constructor(module), {"nn": nn})
    assert repr(made) == repr(module)
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    assert {name: value.shape for name, value in made.state_dict().items()} == shapes


class Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_module_that_is_not_torchs_is_refused() -> None:
    with pytest.raises(ExportError, match="public module"):
        constructor(Own())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space_name", "text"),
    [
        ("nasbench201", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"),
        ("nasbench201", "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|"),
        ("nasbench201", "|none~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|"),
        ("macro", "00000000"),
        ("macro", "21022012"),
    ],
)
def test_networks_of_the_spaces_are_delivered(space_name: str, text: str, tmp_path: Path) -> None:
    space = REGISTRY[space_name]({"input_shape": (2, 8, 8), "num_classes": 3})
    parity = export(space.build(space.parse(text), seed=1), tmp_path, *ALL)
    assert set(parity) == set(ALL)
    assert max(parity.values()) <= TOLERANCE
