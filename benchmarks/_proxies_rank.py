"""How proxies rank: NAS-Bench-201 architectures with stored scores, real CIFAR-10 images, networks of full size."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import predictors.zerocost
import searchspaces
from benchmarks._data import cache_folder, data_file, json_lines
from benchmarks._report import Value
from nas.datasets import REGISTRY as DATASETS
from nas.scoring import proxy_context, score_many
from nas.streams import stream
from nas.tasks import REGISTRY as TASKS
from predictors.ranking import kendall, rank_vote, spearman
from predictors.zerocost import REGISTRY, Vote
from searchspaces import SearchSpace

Floats = npt.NDArray[np.float64]

STORED = {"naswot": "nwot"}
"""Our name -> the name of the stored score, where they differ."""
AGREEING = ("synflow", "naswot", "params", "l2_norm")
VOTE = ("live_params", "jacov")
SEED = 0


class Setting(NamedTuple):
    """What is scored, and how."""

    architectures: int
    images: int
    reduced: bool
    workers: int


def figures(setting: Setting) -> dict[str, Value]:
    """Spearman with true accuracy of every proxy and of the vote, as a table on stdout and as figures."""
    import torch

    folder = data_file("nasbench201.npz").parent
    with np.load(folder / "nasbench201.npz") as table, np.load(folder / "nasbench201_zero_cost.npz") as stored:
        rows = stream(SEED, "proxies", "rows").permutation(stored["cifar10_arch_index"])[: setting.architectures]
        truth = table["cifar10_test_acc"][rows].astype(float)
        place = {int(row): i for i, row in enumerate(stored["cifar10_arch_index"])}
        kept = stored["cifar10_scores"][[place[int(row)] for row in rows]]
        published = dict(zip(map(str, stored["proxy_names"]), kept.T, strict=True))
    space = searchspaces.REGISTRY["nasbench201"]({"input_shape": (3, 32, 32), "num_classes": 10})
    torch.set_num_threads(max(1, torch.get_num_threads() // setting.workers))
    scores, seconds, undefined = _scores(space, rows, setting)
    columns = _with_costs(space, rows, scores)
    connected = np.array([space.is_connected(space.at(int(row))) for row in rows])
    return _report(truth, columns, seconds, undefined, connected, published)


def elsewhere() -> dict[str, Value]:
    """The same vote on stored scores of two other spaces: NAS-Bench-101 and the DARTS space."""
    found: dict[str, Value] = {}
    with np.load(data_file("nasbench101_subset.npz")) as table:
        names, scores = [str(n) for n in table["zc_proxy_names"]], table["zc_scores"].astype(float)
        found |= _stored_vote("nasbench101", names, scores, table["zc_valid_acc"].astype(float))
    with np.load(data_file("nasbench301_zero_cost.npz")) as table:
        names, scores = [str(n) for n in table["proxy_names"]], table["scores"].astype(float)
        found |= _stored_vote("darts", names, scores, table["surrogate_valid_acc"].astype(float))
    return found


def _stored_vote(space: str, names: Sequence[str], scores: Floats, truth: Floats) -> dict[str, Value]:
    columns = {name: scores[:, names.index(name)] for name in ("params", "jacov")}
    vote = rank_vote(list(columns.values()))
    return {
        f"vote_spearman_{space}": spearman(truth, vote),
        **{f"{name}_spearman_{space}": spearman(truth, _ranked(column)) for name, column in columns.items()},
    }


# --- scores ----------------------------------------------------------------------------------------------------------


def _scores(
    space: SearchSpace, rows: Sequence[int], setting: Setting
) -> tuple[dict[str, Floats], dict[str, float], dict[str, int]]:
    """Per proxy: the scores (NaN where undefined), mean seconds, and how many were undefined where a path leads."""
    proxies = {name: REGISTRY[name]() for name in REGISTRY}
    own = [name for name, proxy in proxies.items() if not isinstance(proxy, Vote)]
    file = cache_folder() / f"proxies-{_digest(setting)}.jsonl"
    known = {entry["row"]: entry for entry in json_lines(file)}
    missing = [int(row) for row in rows if int(row) not in known]
    if missing:
        _fill(space, missing, proxies, setting, file)
        known = {entry["row"]: entry for entry in json_lines(file)}
    entries = [known[int(row)] for row in rows]
    values = {name: np.array([e["values"][name] for e in entries], dtype=float) for name in own}
    seconds = {name: float(np.mean([e["seconds"][name] for e in entries])) for name in own}
    return values, seconds, {name: int(np.isnan(values[name]).sum()) for name in own}


def _fill(
    space: SearchSpace,
    rows: Sequence[int],
    proxies: Mapping[str, predictors.zerocost.Proxy],
    setting: Setting,
    file: Path,
) -> None:
    import torch

    dataset = DATASETS["cifar10"]({"path": str(data_file("cifar10_small.npz")), "variant": "small"})
    task = TASKS["classification"]({}, dataset)
    context = proxy_context(dataset, task, images=setting.images, seed=SEED, device=torch.device("cpu"))
    scored = space.reduced() if setting.reduced else space
    asked = {space.at(row): row for row in rows}
    with file.open("a", encoding="utf-8") as out:
        found = score_many(scored, list(asked), proxies, context, workers=setting.workers)
        for done, (architecture, scores) in enumerate(found, 1):
            entry = {
                "row": asked[architecture],
                "values": {name: score.value for name, score in scores.items()},
                "seconds": {name: score.seconds for name, score in scores.items()},
            }
            print(json.dumps(entry), file=out, flush=True)
            if done % 20 == 0 or done == len(asked):
                print(f"{done} of {len(asked)} architectures scored", file=sys.stderr)


def _digest(setting: Setting) -> str:
    """Of all sources that scores depend on, and of the setting."""
    folders = (Path(predictors.zerocost.__file__).parent, Path(searchspaces.__file__).parent)
    sources = [file.read_bytes() for folder in folders for file in sorted(folder.glob("*.[pc]*")) if file.is_file()]
    identity = repr((setting.images, setting.reduced, SEED)).encode()
    return hashlib.sha256(b"|".join([identity, *sources])).hexdigest()[:16]


def _with_costs(space: SearchSpace, rows: Sequence[int], scores: dict[str, Floats]) -> dict[str, Floats]:
    architectures = [space.at(int(row)) for row in rows]
    every = np.array([space.counts(a) for a in architectures], dtype=float)
    live = np.array([space.counts(a, live=True) for a in architectures], dtype=float)
    costs = {"params": every[:, 0], "flops": every[:, 1], "live_params": live[:, 0], "live_flops": live[:, 1]}
    votes = {name: proxy.parts for name in REGISTRY if isinstance(proxy := REGISTRY[name](), Vote)}
    columns = {**costs, **scores}
    return columns | {name: rank_vote([columns[part] for part in parts]) for name, parts in votes.items()}


# --- report ----------------------------------------------------------------------------------------------------------


def _report(
    truth: Floats,
    columns: Mapping[str, Floats],
    seconds: Mapping[str, float],
    undefined: Mapping[str, int],
    connected: npt.NDArray[np.bool_],
    published: Mapping[str, Floats],
) -> dict[str, Value]:
    top = truth >= np.quantile(truth, 0.8)
    vote = rank_vote([columns[name] for name in VOTE])
    found: dict[str, Value] = {}
    print(
        f"{'':18}{'all':>8}{'connected':>11}{'top fifth':>11}{'partial':>9}{'seconds':>9}{'stored':>8}{'undefined':>11}"
    )
    for name, column in {**columns, "vote": vote}.items():
        ranked = _ranked(column)
        agreement = _agreement(column, published.get(STORED.get(name, name)))
        shown = [spearman(truth[part], ranked[part]) for part in (np.ones_like(top), connected, top)]
        partial = _partial(truth, ranked, columns["live_params"])
        cells = [*shown, partial, seconds.get(name), agreement]
        widths = (8, 11, 11, 9, 9, 8)
        texts = [
            f"{'-' if cell is None else f'{cell:.3f}':>{width}}" for cell, width in zip(cells, widths, strict=True)
        ]
        print(f"{name:18}{''.join(texts)}{undefined.get(name, 0):>11}")
        found[f"spearman.{name}"] = shown[0]
        if name in AGREEING:
            found[f"agreement.{name}"] = agreement
    found["vote_spearman"] = found.pop("spearman.vote")
    found["vote_kendall"] = kendall(truth, vote)
    return found


def _ranked(column: Floats) -> Floats:
    """The column with what is undefined ranked last."""
    defined = np.isfinite(column)
    lowest = column[defined].min() if defined.any() else 0.0
    return np.where(defined, column, lowest - 1.0)


def _agreement(ours: Floats, stored: Floats | None) -> float | None:
    if stored is None:
        return None
    both = np.isfinite(ours) & np.isfinite(stored)
    return spearman(stored[both], ours[both])


def _partial(truth: Floats, ranked: Floats, given: Floats) -> float | None:
    """Spearman of truth and scores given a third ranking."""
    pairs = (spearman(truth, ranked), spearman(truth, given), spearman(ranked, given))
    if any(rho is None or not abs(rho) < 1 - 1e-9 for rho in pairs[1:]) or pairs[0] is None:
        return None
    xy, xz, yz = (float(rho) for rho in pairs if rho is not None)
    return (xy - xz * yz) / float(np.sqrt((1 - xz**2) * (1 - yz**2)))
