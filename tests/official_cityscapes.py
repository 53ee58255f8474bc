"""The official evaluation, cityscapesscripts 2.3.0 in pure Python: the oracle of the judgement."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest


@dataclass(frozen=True)
class Official:
    """Scores by name, NaN where one does not exist."""

    classes: dict[str, float]
    class_instances: dict[str, float]
    categories: dict[str, float]
    category_instances: dict[str, float]
    averages: tuple[float, float, float, float]


def official_scores(predictions: Sequence[Path], truths: Sequence[Path], *, instances: bool = True) -> Official:
    """Judge pairs of prediction and ``labelIds`` file; ``instanceIds`` files lie beside the latter."""
    script = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    assert not script.CSUPPORT
    script.args.quiet, script.args.JSONOutput, script.args.evalInstLevelScore = True, False, instances
    with pytest.MonkeyPatch.context() as patch:
        # NumPy 2.4 removed the name, which version 2.3.0 of the scripts still uses.
        patch.setattr(np, "in1d", np.isin, raising=False)
        found = script.evaluateImgLists(
            [str(path) for path in predictions], [str(path) for path in truths], script.args
        )
    return Official(
        found["classScores"],
        found["classInstScores"],
        found["categoryScores"],
        found["categoryInstScores"],
        (
            found["averageScoreClasses"],
            found["averageScoreInstClasses"],
            found["averageScoreCategories"],
            found["averageScoreInstCategories"],
        ),
    )


def official_scores_of_arrays(folder: Path, frames: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Official:
    """:func:`official_scores` of (label ids uint8, instance ids uint16, prediction uint8), written into ``folder``."""
    predictions, truths = [], []
    for number, (truth, instances, prediction) in enumerate(frames):
        stem = folder / f"ulm_{number:06d}_000019"
        truths.append(Path(f"{stem}_gtFine_labelIds.png"))
        predictions.append(Path(f"{stem}_pred.png"))
        cv2.imwrite(str(truths[-1]), truth)
        cv2.imwrite(f"{stem}_gtFine_instanceIds.png", instances)
        cv2.imwrite(str(predictions[-1]), prediction)
    return official_scores(predictions, truths)
