"""The label ids of Cityscapes (Cordts et al. 2016): names, categories, which are judged, which have instances.

Here and not beside the reader, since the judgement needs them and ``metrics`` knows no data set. License plates (id -1)
are left out: no mask stores them.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CityscapesLabel:
    """One id of the ``labelIds`` masks. ``judged`` is false for ids whose pixels count nowhere."""

    id: int
    name: str
    category: str
    judged: bool
    has_instances: bool


_VOID = ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground")
_REST = (
    ("flat", ("road", "sidewalk", "parking", "rail track")),
    ("construction", ("building", "wall", "fence", "guard rail", "bridge", "tunnel")),
    ("object", ("pole", "polegroup", "traffic light", "traffic sign")),
    ("nature", ("vegetation", "terrain")),
    ("sky", ("sky",)),
    ("human", ("person", "rider")),
    ("vehicle", ("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle")),
)
_NOT_JUDGED = frozenset(
    (*_VOID, "parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer")
)
INSTANCE_CATEGORIES = ("human", "vehicle")
"""The categories all of whose ids have instances."""

CATEGORIES = tuple(category for category, _ in _REST)
"""The seven categories that are judged, in the order of their ids; ``void`` is none of them."""

LABELS = tuple(
    CityscapesLabel(number, name, category, name not in _NOT_JUDGED, category in INSTANCE_CATEGORIES)
    for number, (category, name) in enumerate(
        (category, name) for category, names in (("void", _VOID), *_REST) for name in names
    )
)
"""All 34, in id order."""

LABEL_IDS = tuple(label.id for label in LABELS if label.judged)
"""The label id of each of the 19 train ids, in train-id order."""

INSTANCE_IDS = tuple(label.id for label in LABELS if label.judged and label.has_instances)
"""The eight ids whose instances are judged."""

AVERAGE_INSTANCE_SIZE = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""Mean size of an instance of each judged class in pixels of 1024x2048, as the official evaluation states it."""


def label_ids_of(train_ids: np.ndarray) -> np.ndarray:
    """Label ids uint8 of train ids uint8 0..18 (any shape); everything else becomes 0, unlabeled."""
    return _TO_LABEL_ID[train_ids]


_TO_LABEL_ID = np.zeros(256, np.uint8)
_TO_LABEL_ID[: len(LABEL_IDS)] = LABEL_IDS
