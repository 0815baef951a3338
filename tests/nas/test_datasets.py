"""Data sets from files: what is read, and how bad input is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.datasets import REGISTRY, Dataset
from searchspaces import DataError


def arrays(count: int = 60, *, channels: int = 3, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 6, 8, channels), dtype=np.uint8), np.arange(count) % classes


def saved(path: Path, **content: np.ndarray) -> dict[str, object]:
    np.savez(path, **content)
    return {"path": str(path)}


def folder_of_images(root: Path, *, count: int = 10, size: tuple[int, int] = (8, 6)) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


# --- digits ---


def test_digits_are_split_60_20_20_with_every_class_in_its_share() -> None:
    digits = REGISTRY["digits"]()
    sizes = [len(digits.train), len(digits.valid), len(digits.load_test())]
    assert (sum(sizes), digits.input_shape) == (1797, (1, 8, 8))
    assert np.allclose(np.array(sizes) / 1797, (0.6, 0.2, 0.2), atol=0.002)
    shares = np.bincount(digits.train.labels) / (
        np.bincount(digits.train.labels) + np.bincount(digits.valid.labels) + np.bincount(digits.load_test().labels)
    )
    assert np.allclose(shares, 0.6, atol=0.005)
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)


def test_another_seed_is_another_split_with_another_digest_and_the_same_samples() -> None:
    first, second = REGISTRY["digits"](), REGISTRY["digits"]({"seed": 1})
    assert first.digest != second.digest
    ids = [np.sort(np.concatenate([d.train.ids, d.valid.ids, d.load_test().ids])) for d in (first, second)]
    assert np.array_equal(*ids)
    everything = {int(i): image for i, image in zip(first.train.ids, first.train.images, strict=True)}
    shared = [n for n, i in enumerate(second.train.ids) if int(i) in everything]
    assert all(np.array_equal(second.train.images[n], everything[int(second.train.ids[n])]) for n in shared)


@pytest.mark.parametrize("limit", [10, 97, 300])
def test_a_limit_keeps_the_shares_of_the_classes(limit: int) -> None:
    whole, capped = REGISTRY["digits"](), REGISTRY["digits"]({"limit": limit})
    assert len(capped.train) == limit
    assert set(capped.train.ids) <= set(whole.train.ids)
    expected = np.bincount(whole.train.labels) * limit / len(whole.train)
    assert np.abs(np.bincount(capped.train.labels, minlength=10) - expected).max() < 1


# --- files ---


def test_fashion_mnist_keeps_the_original_order_and_its_test_split(data_folder: Path) -> None:
    fashion = REGISTRY["fashion_mnist"]({"limit": 100})
    with np.load(data_folder / "fashion_mnist.npz", allow_pickle=False) as original:
        labels = original["train_y"]
    assert (fashion.input_shape, fashion.class_names[9]) == ((1, 28, 28), "Ankle boot")
    assert np.array_equal(fashion.train.labels, labels[fashion.train.ids])
    assert len(fashion.load_test()) == 10_000


def test_cifar10_decodes_to_what_the_pixel_file_holds(data_folder: Path) -> None:
    full, small = (REGISTRY["cifar10"]({"variant": v, "limit": 300}) for v in ("full", "small"))
    with np.load(data_folder / "cifar10_small.npz", allow_pickle=False) as pixels:
        row_of = {int(index): row for row, index in enumerate(pixels["train_index"])}
        shared = [n for n, i in enumerate(full.train.ids) if int(i) in row_of]
        rows = [row_of[int(full.train.ids[n])] for n in shared]
        images, labels = pixels["train_x"][rows].transpose(0, 3, 1, 2), pixels["train_y"][rows]
    assert len(shared) > 5
    assert np.array_equal(full.train.images[shared], images)
    assert np.array_equal(full.train.labels[shared], labels)
    assert full.class_names == small.class_names


def test_cifar10_can_be_split_as_nasbench201_does(data_folder: Path) -> None:
    dataset = REGISTRY["cifar10"]({"variant": "small", "split": "nasbench201"})
    with np.load(data_folder / "cifar10_nb201_split.npz", allow_pickle=False) as split:
        assert set(dataset.train.ids) <= set(split["train_index"].tolist())
        assert set(dataset.valid.ids) <= set(split["valid_index"].tolist())
    assert len(dataset.train) + len(dataset.valid) == 5_000


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_npz_reads_channels_first_and_last(tmp_path: Path, axes: tuple[int, ...]) -> None:
    images, labels = arrays()
    dataset = REGISTRY["npz"](saved(tmp_path / "a.npz", train_x=images.transpose(axes), train_y=labels))
    assert dataset.input_shape == (3, 6, 8)
    assert np.array_equal(dataset.train.images, images.transpose(0, 3, 1, 2)[dataset.train.ids])
    assert [len(dataset.train), len(dataset.valid), len(dataset.load_test())] == [36, 12, 12]


def test_npz_takes_given_splits_as_they_are_and_names(tmp_path: Path) -> None:
    parts = {name: arrays(30, channels=1, seed=seed) for seed, name in enumerate(("train", "valid", "test"))}
    content = {f"{n}_{k}": v for n, pair in parts.items() for k, v in zip("xy", pair, strict=True)}
    content["train_x"] = content["train_x"][..., 0]  # N x H x W
    names = np.array(["ant", "bee", "cow"])
    dataset = REGISTRY["npz"](saved(tmp_path / "a.npz", **content, class_names=names))
    assert dataset.class_names == ("ant", "bee", "cow")
    for split, (images, labels) in zip(
        (dataset.train, dataset.valid, dataset.load_test()), parts.values(), strict=True
    ):
        assert np.array_equal(split.images, images.transpose(0, 3, 1, 2))
        assert np.array_equal(split.labels, labels)


def test_names_of_bytes_are_text_and_arrays_that_are_not_read_are_said(tmp_path: Path) -> None:
    images, labels = arrays()
    names = np.array([b"ant", b"b\xc3\xa4r", b"cow"])
    dataset = REGISTRY["npz"](
        saved(tmp_path / "a.npz", train_x=images, train_y=labels, class_names=names, weights=np.ones(3))
    )
    assert dataset.class_names == ("ant", "bär", "cow")
    assert dataset.notes == ("arrays that were not read: weights",)


def test_images_without_any_difference_are_said(tmp_path: Path) -> None:
    images, labels = arrays()
    (note,) = REGISTRY["npz"](saved(tmp_path / "a.npz", train_x=np.full_like(images, 7), train_y=labels)).notes
    assert "of one plain colour" in note


def test_the_digest_is_over_the_content_not_the_file(tmp_path: Path) -> None:
    images, labels = arrays()
    first = REGISTRY["npz"](saved(tmp_path / "a.npz", train_x=images, train_y=labels))
    np.savez_compressed(tmp_path / "b.npz", train_y=labels, train_x=images)
    assert REGISTRY["npz"]({"path": str(tmp_path / "b.npz")}).digest == first.digest
    images = images.copy()
    images[first.train.ids[0], 0, 0, 0] ^= 1
    assert REGISTRY["npz"](saved(tmp_path / "c.npz", train_x=images, train_y=labels)).digest != first.digest


def test_the_test_split_is_not_read_before_it_is_asked_for(tmp_path: Path) -> None:
    images, labels = arrays()
    bad = np.zeros((3, 6, 8, 3), dtype=np.float32)
    settings = saved(tmp_path / "a.npz", train_x=images, train_y=labels, test_x=bad, test_y=labels[:3])
    dataset = REGISTRY["npz"](settings)
    with pytest.raises(DataError, match=r"test_x of .*a\.npz is float32"):
        dataset.load_test()


# --- folders ---


def test_a_folder_of_images_is_split_by_class(tmp_path: Path) -> None:
    dataset = REGISTRY["image_folder"]({"path": str(folder_of_images(tmp_path / "pets"))})
    assert (dataset.class_names, dataset.input_shape) == (("cat", "dog"), (3, 6, 8))
    assert [len(dataset.train), len(dataset.valid), len(dataset.load_test())] == [12, 4, 4]


def test_a_folder_with_splits_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        folder_of_images(tmp_path / name, count=3)
    dataset = REGISTRY["image_folder"]({"path": str(tmp_path), "mode": "grey"})
    assert [len(dataset.train), len(dataset.valid), len(dataset.load_test())] == [6, 6, 6]
    assert dataset.input_shape == (1, 6, 8)


def test_images_of_any_size_are_cropped_and_resized(tmp_path: Path) -> None:
    root = folder_of_images(tmp_path)
    Image.new("L", (40, 20), 128).save(root / "cat" / "wide.jpg")
    dataset = REGISTRY["image_folder"]({"path": str(root), "size": 5})
    assert dataset.input_shape == (3, 5, 5)
    assert not dataset.notes


def test_the_id_of_an_image_stays_when_others_are_added(tmp_path: Path) -> None:
    def ids(dataset: Dataset) -> set[int]:
        return set(np.concatenate([dataset.train.ids, dataset.valid.ids, dataset.load_test().ids]).tolist())

    root = folder_of_images(tmp_path)
    before = ids(REGISTRY["image_folder"]({"path": str(root)}))
    Image.new("RGB", (8, 6)).save(root / "cat" / "000.png")
    after = ids(REGISTRY["image_folder"]({"path": str(root)}))
    assert before < after


# --- bad input ---


def broken_zip(path: Path) -> dict[str, object]:
    images, labels = arrays()
    settings = saved(path, train_x=images, train_y=labels)
    path.write_bytes(path.read_bytes()[:-200])
    return settings


def broken_member(path: Path) -> dict[str, object]:
    images, labels = arrays()
    np.savez_compressed(path, train_x=images, train_y=labels)
    content = bytearray(path.read_bytes())
    content[2_000:2_100] = os.urandom(100)
    path.write_bytes(bytes(content))
    return {"path": str(path)}


def bare_array(path: Path) -> dict[str, object]:
    with path.open("wb") as file:
        np.save(file, arrays()[0])
    return {"path": str(path)}


def npz(**changes: object) -> Callable[[Path], dict[str, object]]:
    def write(path: Path) -> dict[str, object]:
        images, labels = arrays()
        content = {"train_x": images, "train_y": labels} | changes
        return saved(path, **{name: np.asarray(value) for name, value in content.items() if value is not None})

    return write


BAD_FILES: dict[str, tuple[Callable[[Path], dict[str, object]], str]] = {
    "missing": (lambda path: {"path": str(path)}, "a.npz does not exist"),
    "cut short": (broken_zip, "a.npz cannot be read .* cut short"),
    "damaged": (broken_member, "a.npz cannot be read .* broken"),
    "no zip": (bare_array, "bare array; write train_x"),
    "pickled objects": (npz(train_x=np.array([{}] * 60, dtype=object)), "cannot be read .* nothing is unpickled"),
    "no labels": (npz(train_y=None), "has no array train_y; it has train_x"),
    "floats of 255": (npz(train_x=np.full((60, 6, 8), 200.0)), r"is float64; .*x\.round\(\)"),
    "values that are not finite": (npz(train_x=np.full((60, 6, 8), np.nan)), "replace what is not finite"),
    "yes and no": (npz(train_x=np.zeros((60, 6, 8), dtype=bool)), r"is bool; .*x.astype\('uint8'\) \* 255"),
    "16 bits": (npz(train_x=np.full((60, 6, 8), 60_000, dtype=np.uint16)), r"is uint16; .*\(x // 257\)"),
    "signed": (npz(train_x=np.full((60, 6, 8), -3, dtype=np.int16)), "is int16; .* it runs from -3 to -3, so scale"),
    "no pixels": (npz(train_x=np.zeros((60, 0, 8), dtype=np.uint8)), r"shape \(60, 0, 8\); give N x H x W"),
    "labels that are ids": (
        npz(train_y=10**9 + np.arange(60) % 3),
        "labels 1000000000 to 1000000002, 3 different ones",
    ),
    "one label that is an id": (npz(train_y=np.where(np.arange(60) == 5, 10**8, np.arange(60) % 3)), "4 different"),
    "labels from 1": (npz(train_y=1 + np.arange(60) % 3), "labels 1 to 3, 3 different ones; number the classes from 0"),
    "labels of texts": (npz(train_y=np.array(["a", "b"] * 30)), r"is <U1; .*numpy.unique\(y, return_inverse=True\)"),
    "one-hot labels": (npz(train_y=np.eye(3)[np.arange(60) % 3]), r"shape \(60, 3\) .*y\.argmax\(axis=1\)"),
    "far below": (npz(train_y=np.arange(60) % 3 - 10**12), "has the label -1000000000000, outside 0 to"),
    "two classes of one name": (npz(class_names=["a", "b", "a"]), "two classes called 'a'"),
    "names in a square": (npz(class_names=[["a", "b", "c"]]), r"class_names .* has shape \(1, 3\); give a list"),
    "names that are no text": (npz(class_names=np.array([b"\xff", b"b", b"c"])), "class_names .* is no UTF-8 text"),
    "a split by another name": (npz(val_x=arrays()[0], val_y=arrays()[1]), "val_x looks like the valid split; call"),
    "splits the other way round": (npz(train_x=None, X_train=arrays()[0]), "X_train looks like the train split; call"),
    "floats": (npz(train_x=np.zeros((60, 6, 8, 3))), r"train_x of .* is float64; .*\(x \* 255\).round\(\)"),
    "wide integers": (npz(train_x=np.zeros((60, 6, 8), dtype=int)), "is int64; images are uint8"),
    "flat images": (npz(train_x=np.zeros((60, 48), dtype=np.uint8)), r"shape \(60, 48\); give N x H x W"),
    "channels unclear": (npz(train_x=np.zeros((60, 3, 4, 4), dtype=np.uint8)), "set layout to NHWC or NCHW"),
    "fractional labels": (npz(train_y=np.zeros(60)), "train_y of .* is float64; labels are whole numbers"),
    "too few labels": (npz(train_y=np.zeros(59, dtype=int)), r"shape \(59,\) for 60 images"),
    "negative label": (npz(train_y=np.arange(60) % 3 - 1), "label -1, outside 0 to"),
    "label beyond the names": (npz(class_names=["a", "b"]), "label 2, outside 0 to 1"),
    "a class that never occurs": (npz(train_y=np.arange(60) % 3 * 2), "class '1' has no training image"),
    "a class with one image": (npz(train_y=np.array([0, 1] * 29 + [0, 2])), "class 2 has only 1 image"),
    "one class": (npz(train_y=np.zeros(60, dtype=int)), "has 1 class; give images of at least two"),
    "no images": (npz(train_x=np.zeros((0, 6, 8), dtype=np.uint8), train_y=np.zeros(0, dtype=int)), "is empty; give"),
    "another shape in valid": (
        npz(valid_x=np.zeros((6, 4, 4), dtype=np.uint8), valid_y=np.arange(6) % 3),
        "give both the same channels",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_what_was_found_and_the_way_out(tmp_path: Path, case: str) -> None:
    write, complaint = BAD_FILES[case]
    with pytest.raises(DataError, match=complaint):
        REGISTRY["npz"](write(tmp_path / "a.npz"))


def empty(root: Path) -> None:
    root.mkdir(exist_ok=True)


def not_an_image(root: Path) -> None:
    for path in folder_of_images(root).rglob("*.png"):
        path.write_text("no image")


def cut_image(root: Path) -> None:
    for path in folder_of_images(root, size=(64, 64)).rglob("*.png"):
        path.write_bytes(path.read_bytes()[:600])


def empty_class(root: Path) -> None:
    (folder_of_images(root) / "eel").mkdir()


def unknown_class_in_valid(root: Path) -> None:
    folder_of_images(root / "train")
    (folder_of_images(root / "valid") / "cat").rename(root / "valid" / "cow")


def one_class(root: Path) -> None:
    (folder_of_images(root) / "cat").rename(root.parent / "gone")


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda root: None, "data is no folder"),
    "empty": (empty, "has no sub-folders"),
    "not an image": (not_an_image, r"\d\d.png is no readable image"),
    "image cut short": (cut_image, r"\d\d.png is no readable image"),
    "a class without images": (empty_class, "eel holds no image"),
    "another class in valid": (unknown_class_in_valid, "cow is a class without training images"),
    "one class": (one_class, "has 1 class"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_refused_with_what_was_found_and_the_way_out(tmp_path: Path, case: str) -> None:
    make, complaint = BAD_FOLDERS[case]
    make(tmp_path / "data")
    with pytest.raises(DataError, match=complaint):
        REGISTRY["image_folder"]({"path": str(tmp_path / "data")})


def test_a_limit_that_leaves_a_class_out_is_refused(data_folder: Path) -> None:
    with pytest.raises(DataError, match="no training image; give at least one of every class, or raise the limit"):
        REGISTRY["fashion_mnist"]({"limit": 2})


def test_without_a_path_and_a_data_folder_the_message_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_DATA", raising=False)
    with pytest.raises(DataError, match=r"cifar10_jpeg\.npz is not given and NAS_DATA is not set"):
        REGISTRY["cifar10"]()
