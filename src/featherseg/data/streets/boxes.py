"""The vehicles of the procedural street scenes as KITTI would annotate them, for detection.

* A box is the whole vehicle, hidden parts included, cut off at the image's edge: as KITTI draws them. It comes from the
  vehicle's geometry and is not rounded to pixels.
* ``truncation`` is the share of the whole box that lies beyond the image. ``occlusion`` goes by the share of the
  vehicle's pixels in the image that nothing hides: 0 (not occluded) from 0.9, 1 (partly) from 0.5, 2 (largely) from
  0.2, 3 below.
* A vehicle of which hardly anything is to be seen becomes a DontCare region: fewer than 16 pixels, a tenth of it, or
  8 pixels of height. One that is wholly hidden does not exist.
* Hatchbacks, saloons, estates and SUVs are Car, vans Van, lorries and buses Truck.
"""

import hashlib
from pathlib import Path

import numpy as np

from featherseg.data.boxes import BoxSample
from featherseg.data.kitti_labels import DONT_CARE, split_by_target, target_of
from featherseg.data.streets.scenes import SceneVehicle, Streets
from featherseg.metrics.kitti import CAR, KittiTruth

VERSION = 1  # raised whenever the same scene would give other boxes

KITTI_TYPE = {"van": "Van", "lorry": "Truck", "bus": "Truck"}
"""KITTI's type of a kind of vehicle; all others are cars."""

VISIBLE_FROM = (0.9, 0.5, 0.2)
"""Least visible shares of the occlusion levels 0, 1 and 2."""

LEAST_PIXELS, LEAST_SHARE, LEAST_HEIGHT = 16, 0.1, 8.0


def street_truth(vehicles: list[SceneVehicle], size: tuple[int, int]) -> KittiTruth:
    """The vehicles of a scene of ``size`` (rows, columns) as labels in KITTI's terms; boxes float64 ``[N, 4]``."""
    whole = np.array([vehicle.extent for vehicle in vehicles], np.float64).reshape(-1, 4)
    rows, columns = size
    boxes = np.clip(whole, 0, [columns, rows, columns, rows])
    areas, inside = (np.prod(corners[:, 2:] - corners[:, :2], axis=1) for corners in (whole, boxes))
    heights = boxes[:, 3] - boxes[:, 1]
    shares = np.array([vehicle.visible for vehicle in vehicles], np.float64)
    pixels = np.array([vehicle.pixels for vehicle in vehicles], np.int64)
    clear = (pixels >= LEAST_PIXELS) & (shares >= LEAST_SHARE) & (heights >= LEAST_HEIGHT)
    names = [
        KITTI_TYPE.get(vehicle.kind, CAR.name) if kept else DONT_CARE
        for vehicle, kept in zip(vehicles, clear, strict=True)
    ]
    occlusion = np.count_nonzero(shares[:, None] < np.array(VISIBLE_FROM), axis=1)
    drawn = inside > 0
    truncation = np.divide(areas - inside, areas, out=np.zeros_like(areas), where=areas > 0)
    return KittiTruth(tuple(np.array(names)[drawn].tolist()), boxes[drawn], truncation[drawn], occlusion[drawn])


class StreetBoxes:
    """The scenes of one split with the boxes of their vehicles: a :class:`~featherseg.data.boxes.DetectionDataset`.

    Args:
        scenes: the segmentation source of the same scenes.
        target: "Car" (vans are ignored) or "vehicle".

    Raises:
        FeathersegError: no target is called so.
    """

    def __init__(self, scenes: Streets, target: str = CAR.name) -> None:
        self.scenes, self.target = scenes, target_of(target)
        self.classes = (self.target.name,)
        self.split = scenes.split
        self.name = f"streets-{self.target.name.lower()}/{scenes.size[1]}x{scenes.size[0]}"
        self._latest: tuple[int, np.ndarray, KittiTruth] | None = None

    def __len__(self) -> int:
        return len(self.scenes)

    def _scene(self, index: int) -> tuple[np.ndarray, KittiTruth]:
        """Image and labels; those of the last scene are kept, since a judgement asks for both."""
        if self._latest is None or self._latest[0] != index:
            sample, vehicles = self.scenes.read_with_vehicles(index)
            self._latest = index, sample.image, street_truth(vehicles, self.scenes.size)
        return self._latest[1], self._latest[2]

    def read(self, index: int) -> BoxSample:
        """Paint one scene, with the boxes of its vehicles."""
        image, truth = self._scene(index)
        boxes, ignored = split_by_target(truth, self.target)
        return BoxSample(image.copy(), boxes, np.zeros(len(boxes), np.int64), ignored, self.key(index))

    def truth(self, index: int) -> KittiTruth:
        """All labels of a scene, as its judgement takes them, far to near."""
        return self._scene(index)[1]

    def key(self, index: int) -> str:
        return self.scenes.key(index)

    def paths(self, index: int) -> tuple[Path, Path] | None:
        """None: no files stand behind a scene."""
        return None

    def fingerprint(self) -> str:
        """SHA-256 of the scenes' fingerprint, the target and the version of the boxes, in hex."""
        said = f"{self.scenes.fingerprint()} boxes v{VERSION} {self.target}"
        return hashlib.sha256(said.encode()).hexdigest()
