"""Cards as the commands write them, with made-up figures, for the page's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featherseg import cards
from featherseg.cards import card, write_card
from featherseg.report.card_files import CardFile

TEST = "camvid11/480x360/train→test"
Make = Callable[..., CardFile]


@pytest.fixture
def contestant() -> Callable[..., dict[str, Any]]:
    """Make a row of a speed card, as ``featherseg bench`` has it."""

    def make(source: str, runtime: str, precision: str, p50: float, **more: Any) -> dict[str, Any]:
        row = {"source": source, "runtime": runtime, "precision": precision, "device": "cpu", "output": "logits"}
        row |= {"p50_ms": p50, "p90_ms": 1.1 * p50, "p99_ms": 1.2 * p50, "count": 100, "fps": round(1000 / p50, 2)}
        row |= {"stages": {"network": {"p50_ms": 0.8 * p50}}, "drift": None, "reference_ratio": p50 / 10}
        return row | more

    return make


@pytest.fixture
def candidate() -> Callable[..., dict[str, Any]]:
    """Make a row of a choice card, as ``featherseg choose`` has it."""

    def make(source: str, runtime: str, precision: str, p50: float, miou: float | None, **more: Any) -> dict[str, Any]:
        row = {"source": source, "runtime": runtime, "precision": precision, "scale": 1.0, "input": [360, 480]}
        return row | {"miou": miou, "p50_ms": p50, "p90_ms": 1.1 * p50, "p99_ms": 1.2 * p50, "count": 40} | more

    return make


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a card of a kind with these figures; further arguments change its fields."""
    monkeypatch.setattr(cards, "git_commit", lambda: {"hash": "c0ffee" * 6, "dirty": False})

    def make(kind: str, figures: dict[str, Any], name: str = "a.json", protocol: str = TEST, **more: Any) -> CardFile:
        fixed = {key: more.pop(key) for key in ("date", "machine", "commit") if key in more}
        seeds = more.pop("seeds", [0])
        content = card(
            kind,
            protocol=protocol,
            figures=figures,
            command=f"featherseg {kind} --card {name}",
            seeds=seeds,
            data_fingerprint="f00d",
            **more,
        )
        return CardFile(name, content | fixed)

    return make


@pytest.fixture
def evaluated(made: Make) -> Make:
    """The card of an evaluation of weights with this mIoU."""

    def make(
        weights: str, miou: float, iou: dict[str, float | None] | None = None, images: int = 101, **more: Any
    ) -> CardFile:
        figures = {"miou": miou, "miou_interval": [miou - 1.5, miou + 1.4], "iou": iou or {"car": miou, "road": 90.0}}
        figures["images"] = images
        about = {"model": weights.split(".")[0], "arguments": {}, "precision": "fp32", "name": f"{weights}.json"}
        return made("evaluation", figures, **about | {"weights": weights, "weights_sha256": "ab" * 32} | more)

    return make


@pytest.fixture
def benched(made: Make) -> Make:
    """The card of a benchmark of these rows at a size."""

    def make(*rows: dict[str, Any], size: str = "360x480", threads: int = 2, **more: Any) -> CardFile:
        contestants = {f"{row['source']}, {row['runtime']} {row['precision']}": row for row in rows}
        figures = {"contestants": contestants, "threads": threads, "reference": {"p50_ms": 10.0}, "rounds": 100}
        protocol = f"speed/{size}/{threads} threads/uint8 image to uint8 label map"
        environment = {"abilities": ["avx2", "amx_bf16"]}
        about = {"name": "speed.json", "protocol": protocol, "environment": environment, "device": "cpu"}
        return made("speed", figures, **about | more)

    return make


@pytest.fixture
def chosen(made: Make) -> Make:
    """The card of a choice among these rows."""

    def make(*rows: dict[str, Any], accuracies: str | None = "camvid11/480x360/train→val", **more: Any) -> CardFile:
        figures = {
            "candidates": {f"{number}": row for number, row in enumerate(rows)},
            "threads": 2,
            "protocol": accuracies,
            "size": [360, 480],
            "front": [],
        }
        protocol = "choice/360x480/2 threads/p90 of uint8 image to uint8 label map"
        about = {"name": "choice.json", "protocol": protocol, "environment": {"abilities": ["avx2", "amx_bf16"]}}
        return made("choice", figures, **about | {"device": "cpu"} | more)

    return make


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[CardFile], Path]:
    """Write a card into a folder of cards and give that folder."""

    def save(*files: CardFile) -> Path:
        for file in files:
            write_card(tmp_path / "cards" / file.name, file.card)
        return tmp_path / "cards"

    return save
