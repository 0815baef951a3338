"""Which split a folder or an array is called after."""

from __future__ import annotations

import re

SPLITS = ("train", "valid", "test")

_WORDS = {
    "train": ("train", "training", "learn", "learning"),
    "valid": ("valid", "val", "validate", "validation", "dev", "devel", "development"),
    "test": ("test", "testing", "tests", "eval", "evaluation", "holdout"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_FILLERS = frozenset({"data", "dataset", "folder", "image", "images", "img", "imgs", "photos", "set", "sets", "split"})
_ENDINGS = ("dataset", "data", "images", "set")


def split_called(name: str) -> str | None:
    """`train`, `valid` or `test` where a name says so (`Training`, `test_set`, `VAL2017`, `trainImages`); else None."""
    words = [word for word in re.split(r"[\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)) if word]
    telling = [word for word in (_shortened(word.casefold()) for word in words) if word not in _FILLERS]
    return _SPLIT_OF.get(telling[0]) if len(telling) == 1 else None


def _shortened(word: str) -> str:
    """A word without the filler that ends it: `trainset` is `train`."""
    for ending in _ENDINGS:
        if word.removesuffix(ending) in _SPLIT_OF:
            return word.removesuffix(ending)
    return word
