"""What is taken for a split, a class and an image in a folder; what is left out is said, or refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.datasets import REGISTRY, Dataset
from nas.datasets._names import split_called
from searchspaces import DataError


def fill(folder: Path, count: int = 10, *, size: tuple[int, int] = (8, 6), suffix: str = ".png") -> Path:
    """A folder with so many images."""
    rng = np.random.default_rng(len(folder.parts) + count)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        form = {"form": "JPEG"} if suffix.lower() in (".jfif", ".jpe") else {}
        pixels = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        pixels.save(folder / f"{i:02}{suffix}", format=form.get("form"))
    return folder


def classes(root: Path, count: int = 10) -> Path:
    for name in ("cat", "dog"):
        fill(root / name, count)
    return root


def read(root: Path, **settings: object) -> Dataset:
    return REGISTRY["image_folder"]({"path": str(root), **settings})


def total(dataset: Dataset) -> int:
    return len(dataset.train) + len(dataset.valid) + len(dataset.load_test())


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRAIN_SET", "train"),
        ("trainset", "train"),
        ("train2017", "train"),
        ("trainImages", "train"),
        ("Val", "valid"),
        ("validation data", "valid"),
        ("images-dev", "valid"),
        ("TEST", "test"),
        ("testing", "test"),
        ("test_images", "test"),
        ("Evaluation", "test"),
        ("trainers", None),
        ("bullet train", None),
        ("contest", None),
        ("valley", None),
        ("images", None),
        ("", None),
        ("10", None),
    ],
)
def test_a_name_says_which_split_is_meant(name: str, split: str | None) -> None:
    assert split_called(name) == split


@pytest.mark.parametrize(
    "names",
    [("Training", "Testing"), ("Train", "Test", "Valid"), ("train", "Validation"), ("trainset", "devset", "TESTSET")],
)
def test_splits_in_other_words_and_capitals_are_read(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        classes(tmp_path / name)
    dataset = read(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert total(dataset) == 20 * len(names)
    assert len(dataset.train) == 20 - 4 * (3 - len(names))  # a fifth for each that is cut


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    for name in ("bus", "car", "train"):
        fill(tmp_path / name)
    assert read(tmp_path).class_names == ("bus", "car", "train")


def only_flat_splits(root: Path) -> None:
    for name in ("train", "test"):
        fill(root / name)


def no_training(root: Path) -> None:
    for name in ("valid", "test"):
        classes(root / name)


def two_of_one_split(root: Path) -> None:
    for name in ("train", "val", "Validation"):
        classes(root / name)


def flat_test(root: Path) -> None:
    classes(root / "train")
    fill(root / "test")


def classes_beside_splits(root: Path) -> None:
    classes(root / "train")
    fill(root / "bus")


def splits_within_classes(root: Path) -> None:
    for name in ("cat", "dog"):
        for split in ("train", "test"):
            fill(root / name / split)


def foreign_image(root: Path) -> None:
    (classes(root) / "cat" / "new.HEIC").write_bytes(b"heic")


def dead_link(root: Path) -> None:
    (classes(root) / "cat" / "gone.png").symlink_to(root / "nowhere.png")


def other_capitals(root: Path) -> None:
    classes(root / "train")
    (classes(root / "test") / "cat").rename(root / "test" / "Cat")


def only_leftovers(root: Path) -> None:
    (classes(root) / "eel").mkdir()
    (root / "eel" / ".DS_Store").write_bytes(b"x")


def wrapped(root: Path) -> None:
    classes(root / "images")


def plain(root: Path) -> None:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGBA", (8, 8), (0, i, 0, 0)).save(root / name / f"{i}.png")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "splits without classes": (only_flat_splits, "test and train look like splits, not classes, and hold no folders"),
    "no training": (no_training, r"no folder is for training among .* \(test and valid\); add a folder train"),
    "two of one split": (two_of_one_split, "Validation and val are both the valid split; keep one"),
    "unsorted test images": (flat_test, "test looks like a split, but holds no folders of classes as train does"),
    "classes beside splits": (classes_beside_splits, "train look like splits, bus like classes beside them"),
    "splits within classes": (splits_within_classes, "cat holds test and train, which look like splits; .*: test/cat"),
    "an image of another kind": (foreign_image, "new.HEIC is an image of a kind that is not read; save it as PNG"),
    "a dead link": (dead_link, "gone.png is a link to nothing"),
    "a class in other capitals": (other_capitals, "Cat is a class without training images; call it cat, as in train"),
    "a class of leftovers": (only_leftovers, "eel holds no image that can be read; add some or remove it"),
    "a folder around all": (wrapped, "data holds one folder, so one class; if its folders are classes, give .*images"),
    "nothing to be seen": (plain, "are of one plain colour, .* set another background"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_read_wrongly_is_refused(tmp_path: Path, case: str) -> None:
    make, complaint = REFUSED[case]
    make(tmp_path / "data")
    with pytest.raises(DataError, match=complaint):
        read(tmp_path / "data")


@pytest.mark.parametrize(
    "leftover",
    [
        ".ipynb_checkpoints/0.png",
        "__MACOSX/cat/._0.png",
        "cat/._00.png",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "cat/desktop.ini",
        "cat/.ipynb_checkpoints/00-checkpoint.png",
        "cat/@eaDir/00.png",
        "cat/00.png~",
        "cat/07.jpg.part",
    ],
)
def test_what_tools_leave_behind_is_no_image_and_no_class(tmp_path: Path, leftover: str) -> None:
    root = classes(tmp_path)
    path = root / leftover
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((root / "cat" / "00.png").read_bytes())
    dataset = read(root)
    assert (dataset.class_names, total(dataset), dataset.notes) == (("cat", "dog"), 20, ())


@pytest.mark.parametrize("suffix", [".PNG", ".JPG", ".jfif", ".avif", ".jpe", ".webp", ".gif", ".bmp", ".TIFF"])
def test_images_of_many_suffixes_are_read(tmp_path: Path, suffix: str) -> None:
    root = classes(tmp_path, 4)
    fill(root / "cat", 9, suffix=suffix)
    assert total(read(root)) == 8 + 9


def test_an_image_without_a_suffix_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    root = classes(tmp_path)
    (root / "cat" / "00.png").rename(root / "cat" / "n02123045_1")
    assert total(read(root)) == 20


def test_other_files_are_left_out_and_said(tmp_path: Path) -> None:
    root = classes(tmp_path)
    for name in ("labels.csv", "cat/notes.txt"):
        (root / name).write_text("no image")
    Image.new("RGB", (8, 6)).save(root / "overview.png")
    (note,) = read(root).notes
    assert note.startswith("3 files left out, being no images in the folder of a class: cat/notes.txt, labels.csv")


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    root = classes(tmp_path / "data")
    fill(tmp_path / "elsewhere", 7)
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "loop").symlink_to(root / "cat")
    (root / "emu").symlink_to(tmp_path / "elsewhere")
    dataset = read(root)
    assert (dataset.class_names, total(dataset)) == (("cat", "dog", "emu"), 34)


def test_images_of_unlike_sizes_get_the_median_and_that_is_said(tmp_path: Path) -> None:
    root = classes(tmp_path)  # 20 of 8 x 6
    fill(root / "eel", 30, size=(30, 40))
    dataset = read(root)
    assert dataset.input_shape == (3, 30, 30)
    (note,) = dataset.notes
    assert "images of 8 x 6 to 30 x 40 pixels are cropped to squares and resized to 30 x 30, the median" in note
    assert read(root, limit=6).input_shape == read(root, seed=3).input_shape == (3, 30, 30)
    assert dataset.load_test().images.shape[1:] == (3, 30, 30)


def test_large_photos_of_unlike_sizes_get_224(tmp_path: Path) -> None:
    root = classes(tmp_path, 3)
    fill(root / "cat", 9, size=(300, 400))
    fill(root / "dog", 9, size=(400, 300))
    dataset = read(root)
    assert dataset.input_shape == (3, 224, 224)
    assert "224 x 224, whose shorter sides have the median 300; size sets another" in dataset.notes[0]


def test_splits_of_unlike_sizes_get_one_size(tmp_path: Path) -> None:
    classes(tmp_path / "train")
    for name in ("cat", "dog"):
        fill(tmp_path / "test" / name, 4, size=(9, 9))
    dataset = read(tmp_path)
    assert dataset.input_shape == dataset.load_test().images.shape[1:] == (3, 6, 6)


def test_a_class_of_three_images_has_one_in_every_split(tmp_path: Path) -> None:
    root = classes(tmp_path, 20)
    fill(root / "emu", 3)
    dataset = read(root)
    splits = (dataset.train, dataset.valid, dataset.load_test())
    assert [int((split.labels == 2).sum()) for split in splits] == [1, 1, 1]
    (root / "emu" / "00.png").unlink()
    with pytest.raises(DataError, match="class 'emu' has only 2 images, fewer than the 3 splits that are cut from it"):
        read(root)


def test_a_relative_path_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"{os.path.join(tmp_path, 'images')} is no folder"):
        read(Path("images"))
