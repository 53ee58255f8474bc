"""Judging a classifier on a split, and what it said of every image, so that two can be compared.

Choices worth knowing:

- Every image is shown in the view that travels with the weights, once, or mirrored as well (soft-max averaged).
- A class is right at k if it is among the k with the largest scores; of equal scores the smaller id comes first, so
  that a network that says nothing is right by no luck of the order.
- The five best classes of each image are kept, by its name: files of two trainings, with other splits or orders, are
  compared only if they are of the same images with the same truth.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from featherseg.classification.class_folders import ClassifiedImages
from featherseg.classification.views import ClassificationView
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.metrics.classification import (
    bootstrap_mean_class_accuracy,
    class_accuracy,
    mean_class_accuracy,
    wilson_interval,
)
from featherseg.models.output import InputSpec

KEPT = 5
_KIND = "predictions of a classifier"


@dataclass(frozen=True)
class Judgement:
    """What a classifier said of every image of a split.

    Attributes:
        protocol: data set, classes, view, trained on, judged on.
        classes: their names, in id order.
        keys: of the images.
        truth: int64 ids ``[N]``.
        top: int64 ids ``[N, min(5, K)]``, best first.
    """

    protocol: str
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    truth: np.ndarray
    top: np.ndarray

    def right(self, k: int = 1) -> np.ndarray:
        """bool ``[N]``: whether the true class is among the ``k`` best, at most 5."""
        return (self.top[:, :k] == self.truth[:, None]).any(1)

    def confusion(self) -> np.ndarray:
        """int64 ``[K, K]``; rows are the truth."""
        count = len(self.classes)
        return np.bincount(self.truth * count + self.top[:, 0], minlength=count * count).reshape(count, count)

    def figures(self) -> dict[str, Any]:
        """All scores in percent with their 95 % intervals, JSON-ready (None for a class without images)."""
        count, classes = len(self.truth), len(self.classes)
        first, five = self.right(), self.right(KEPT)
        each = class_accuracy(self.truth, first, classes)
        return {
            "protocol": self.protocol,
            "top1": _percent(first.mean()),
            "top1_interval": [_percent(bound) for bound in wilson_interval(int(first.sum()), count)],
            "top5": _percent(five.mean()),
            "top5_interval": [_percent(bound) for bound in wilson_interval(int(five.sum()), count)],
            "mean_class_accuracy": _percent(mean_class_accuracy(self.truth, first, classes)),
            "mean_class_accuracy_interval": [
                _percent(bound) for bound in bootstrap_mean_class_accuracy(self.truth, first, classes)
            ],
            "class_accuracy": {name: _percent(share) for name, share in zip(self.classes, each, strict=True)},
            "class_accuracy_interval": dict(zip(self.classes, self._class_intervals(first), strict=True)),
            "images": count,
        }

    def _class_intervals(self, right: np.ndarray) -> list[list[float | None] | None]:
        """Wilson's interval of each class's share of ``right`` answers, in percent; None without images."""
        classes = len(self.classes)
        counts, hits = (np.bincount(ids, minlength=classes).tolist() for ids in (self.truth, self.truth[right]))
        return [
            [_percent(bound) for bound in wilson_interval(hit, count)] if count else None
            for hit, count in zip(hits, counts, strict=True)
        ]


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else round(100 * float(share), 4)


def protocol_string(images: ClassifiedImages, trained_on: str, view: ClassificationView, *, flip: bool = False) -> str:
    """``caltech101-100/128x128-centre0.875/train→test``: data set and classes, view, trained on, judged on.

    Of a split that was drawn or read from a file the last part tells which: ``test.seed0``.
    """
    division = getattr(images, "division", None)
    judged = images.split + (f".{division.origin}" if division else "")
    return f"{data_name(images)}/{view}/{trained_on}→{judged}{'+flip' if flip else ''}"


def data_name(images: ClassifiedImages) -> str:
    """Data set and number of classes, as protocols have it."""
    return f"{images.name}-{len(images.classes)}"


@torch.inference_mode()
def judge(
    network: nn.Module,
    images: ClassifiedImages,
    view: ClassificationView,
    *,
    protocol: str,
    flip: bool = False,
    batch_size: int = 64,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> Judgement:
    """Show every image to ``network``, which is put in ``eval()`` and left as it was.

    Args:
        network: takes ``[B, 3, H, W]``, gives logits ``[B, K]`` and has an ``input_spec``.
        images: the split to judge on.
        view: how each is shown.
        protocol: see :func:`protocol_string`.
        flip: average the soft-max with the mirrored view's.
        batch_size: images at once.
        precision: "fp32", or "bf16" / "fp16" autocast.
        progress: called with (done, all).

    Raises:
        FeathersegError: the network has another number of classes than the data, its output is not finite, or a file
            is spoilt.
    """
    device, spec = next(network.parameters()).device, _spec(network)
    half = torch.autocast(
        device.type, torch.bfloat16 if precision == "bf16" else torch.float16, enabled=precision != "fp32"
    )
    classes, count = len(images.classes), len(images)
    truth, top = np.zeros(count, np.int64), np.zeros((count, min(KEPT, classes)), np.int64)
    was_training = network.training
    network.eval()
    try:
        for start in range(0, count, batch_size):
            pairs = [images.read(index) for index in range(start, min(start + batch_size, count))]
            inputs = spec.normalise(torch.from_numpy(np.stack([view(image) for image, _ in pairs])).to(device))
            with half:
                soft = network(inputs).float().softmax(1)
                if flip:
                    soft = (soft + network(inputs.flip(-1)).float().softmax(1)) / 2
            if soft.shape[1] != classes:
                raise FeathersegError(
                    f"{images.name}: the data has {classes} classes, the network gives {soft.shape[1]}. Judge it on "
                    "data with the classes it was trained on."
                )
            if not bool(soft.isfinite().all()):
                raise FeathersegError(
                    f"{images.key(start)}: the network's output is not finite ({precision}). Its weights are spoilt, "
                    "or too large for this precision: judge it in fp32, or train it again."
                )
            done = slice(start, start + len(pairs))
            truth[done] = [label for _, label in pairs]
            top[done] = soft.sort(dim=1, descending=True, stable=True).indices[:, :KEPT].cpu().numpy()
            if progress:
                progress(start + len(pairs), count)
    finally:
        network.train(was_training)
    return Judgement(protocol, images.classes, tuple(images.key(i) for i in range(count)), truth, top)


def _spec(network: nn.Module) -> InputSpec:
    return network.input_spec  # type: ignore[return-value]


def save_predictions(path: str | Path, judged: Judgement, about: dict[str, Any]) -> Path:
    """Write what was said of every image; ``about`` holds further JSON-ready facts (weights, model)."""
    content = {
        "kind": _KIND,
        "format": 1,
        **about,
        "protocol": judged.protocol,
        "classes": list(judged.classes),
        "images": {
            key: [int(truth), *map(int, top)]
            for key, truth, top in zip(judged.keys, judged.truth, judged.top, strict=True)
        },
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return atomic_write(path, text.replace('],"', '],\n"') + "\n")


def load_predictions(path: str | Path) -> Judgement:
    """Read what :func:`save_predictions` wrote.

    Raises:
        FeathersegError: the file is missing or no such file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = content["images"]
        table = np.array(list(rows.values()), np.int64)
        if content["kind"] != _KIND or table.ndim != 2 or table.shape[1] < 2:
            raise ValueError("another kind of file")
        classes = tuple(str(name) for name in content["classes"])
        if table.min() < 0 or table.max() >= len(classes):
            raise ValueError("ids that no class has")
        return Judgement(str(content["protocol"]), classes, tuple(rows), table[:, 0], table[:, 1:])
    except OSError as error:
        raise FeathersegError(f"{path}: the predictions cannot be read: {error.strerror}. Check the path.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise FeathersegError(
            f"{path}: no predictions of a classifier ({error}). `featherseg eval --predictions FILE` writes them."
        ) from None


def shares_right(groups: Sequence[Sequence[str | Path]]) -> tuple[list[np.ndarray], list[list[Judgement]]]:
    """Read the predictions of several networks, of one or more trainings each, over the same images.

    Args:
        groups: the files of each network.

    Returns:
        For each network the share of its trainings that have each image right, float ``[N]`` in the order of the first
        file's images, and the judgements that its files hold.

    Raises:
        FeathersegError: a file is unreadable, or of other images than the first.
    """
    files = [str(file) for group in groups for file in group]
    judged = [load_predictions(file) for file in files]
    right = iter(same_images(judged, files))
    shares = [np.mean([next(right) for _ in group], axis=0) for group in groups]
    each = iter(judged)
    return shares, [[next(each) for _ in group] for group in groups]


def same_images(judgements: Sequence[Judgement], names: Sequence[str]) -> list[np.ndarray]:
    """Whether each judgement has each image right, bool ``[N]`` each, in the order of the first one's images.

    Raises:
        FeathersegError: they are of other images, or of the same with another truth.
    """
    first, aligned = judgements[0], []
    truth = {key: first.classes[k] for key, k in zip(first.keys, first.truth, strict=True)}
    for judged, name in zip(judgements, names, strict=True):
        place = {key: index for index, key in enumerate(judged.keys)}
        if set(place) != set(truth):
            shared = len(set(place) & set(truth))
            raise FeathersegError(
                f"{name}: of other images than {names[0]} ({len(place):,} and {len(truth):,}, {shared:,} in both). "
                "Judge both on the same split of the same data."
            )
        other = next((key for key in truth if judged.classes[judged.truth[place[key]]] != truth[key]), None)
        if other is not None:
            raise FeathersegError(
                f"{name}: {other} shows another class there than in {names[0]}. Judge both on the same data."
            )
        aligned.append(judged.right()[[place[key] for key in first.keys]])
    return aligned
