"""Label sets: class names and display colours; ids are 0..K-1 and 255 means ignore, everywhere."""

from dataclasses import dataclass

IGNORE = 255


@dataclass(frozen=True)
class LabelSet:
    """The classes of a task, in id order, each with an RGB display colour."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ValueError(f"{self.name}: {len(self.classes)} classes but {len(self.palette)} colours")

    def __len__(self) -> int:
        return len(self.classes)


CAMVID11 = LabelSet(
    "camvid11",
    ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
)
"""CamVid's 11 classes in the SegNet order (Badrinarayanan et al. 2017)."""
