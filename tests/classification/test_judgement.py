"""What a judgement says of each class."""

import numpy as np

from featherseg.classification.evaluation import Judgement
from featherseg.cli.eval_classification import readable
from featherseg.metrics.classification import wilson_interval

TRUTH = np.array([0] * 10 + [1] * 4)
SAID = np.array([0] * 7 + [1] * 3 + [1] * 4)
JUDGED = Judgement("p", ("ant", "bee", "cow"), tuple(map(str, range(14))), TRUTH, np.stack([SAID, 2 - SAID], 1))


def test_every_class_has_the_interval_of_its_own_images() -> None:
    figures = JUDGED.figures()
    assert figures["class_accuracy"] == {"ant": 70.0, "bee": 100.0, "cow": None}
    expected = {
        name: [round(100 * bound, 4) for bound in wilson_interval(*of)]
        for name, of in {"ant": (7, 10), "bee": (4, 4)}.items()
    }
    assert figures["class_accuracy_interval"] == expected | {"cow": None}


def test_the_worst_classes_are_told_with_their_intervals() -> None:
    low, high = (100 * bound for bound in wilson_interval(7, 10))
    assert f"ant 70 ({low:.0f} to {high:.0f}), bee 100" in readable(JUDGED.figures())
