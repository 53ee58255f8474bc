"""The result card of an evaluation, whatever the task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featherseg.cli.common import PROGRAM


def write_evaluation_card(
    path: Path,
    command: list[str],
    name: str,
    metadata: Mapping[str, Any],
    figures: Mapping[str, Any],
    *,
    sha256: str,
    fingerprint: str,
    precision: str,
    notes: str | None = None,
) -> None:
    """Write what was judged and how.

    Args:
        path: of the card.
        command: what was typed after the program's name.
        name: the weights' file or name.
        metadata: of the weights.
        figures: the scores, and under "protocol" how they were taken.
        sha256: of the weights' file.
        fingerprint: of the data.
        precision: the network ran in.
        notes: anything a reader must know.
    """
    from featherseg.cards import card, write_card

    recipe = metadata.get("recipe") or {}
    seed = (recipe.get("train") or {}).get("seed")
    made = card(
        "evaluation",
        protocol=figures["protocol"],
        figures={key: value for key, value in figures.items() if key != "protocol"},
        command=[PROGRAM, *command],
        seeds=[] if seed is None else [seed],
        data_fingerprint=fingerprint,
        notes=notes,
        model=metadata.get("architecture"),
        arguments=metadata.get("arguments"),
        weights=name,
        weights_sha256=sha256,
        precision=precision,
        trained_steps=(metadata.get("training") or {}).get("step"),
        recipe=recipe.get("name"),
        balance=metadata.get("balance"),
    )
    write_card(path, made)
