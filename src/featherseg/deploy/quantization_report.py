"""What became of quantising: figures, and what makes them doubtful or the file pointless.

Warnings refuse nothing: each is a sentence that says what to do. They travel in the file's metadata.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherseg.deploy.quantization_judge import Verdict
from featherseg.deploy.quantization_kind import unlike_told
from featherseg.deploy.quantization_search import Kept
from featherseg.deploy.quantization_speed import Speeds

FEW_JUDGED = 10
FASTER = 1.05
"""Less than this many times as fast is within what two timings of one program differ by."""


@dataclass(frozen=True)
class QuantizationReport:
    """What became of quantising.

    Attributes:
        file: where it was written; None where the bound was not met.
        size: (H, W) of the images that it takes; None for any.
        size_bytes: of the "float32" and the "int8" file.
        layers: how many there are with weights.
        kept: those that stay in float32, in the order in which they were restored.
        gains: of the layers, where they had to be ranked: how much less of the pixels is labelled otherwise than by
            float32 when the layer alone is restored.
        losses: how many layers were kept and the loss, of every program judged.
        by: what the loss is of: "mIoU", in points, or "agreement", in percent of the pixels.
        bound: for the loss; ``met`` says whether it is under it.
        verdicts: of "float32" and "int8", and of "bf16" and "int8_bf16" where the runtime has bfloat16.
        speeds: of the same.
        fastest_float, fastest_int8: two of those names.
        times_as_fast: the second against the first.
        calibrated_on, judged_on: the images and how many.
        unlike: how far the calibration images are from those that the network was trained on, where that is far
            (deploy/quantization_kind.py).
    """

    file: Path | None
    runtime: str
    size: tuple[int, int] | None
    size_bytes: dict[str, int]
    layers: int
    kept: Kept
    gains: dict[str, float]
    losses: tuple[tuple[int, float], ...]
    by: str
    bound: float
    met: bool
    verdicts: dict[str, Verdict]
    speeds: Speeds
    fastest_float: str
    fastest_int8: str
    times_as_fast: float
    calibrated_on: dict[str, Any]
    judged_on: dict[str, Any]
    unlike: float | None = None

    @property
    def faster(self) -> bool:
        """Whether int8 is faster than the fastest float, by more than chance."""
        return self.times_as_fast >= FASTER

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the figures doubtful or the file pointless, a sentence each."""
        said = []
        if self.unlike is not None:
            said.append(unlike_told(self.calibrated_on["images"], self.unlike))
        if 2 * len(self.kept) > self.layers:
            what = "int8 by name only" if len(self.kept) == self.layers else "mostly float32"
            said.append(
                f"{len(self.kept)} of {self.layers} layers stay in float32: the file is {what}. Calibrate on other "
                "images, allow more by --bound, or run float32"
            )
        if self.judged_on["count"] < FEW_JUDGED:
            said.append(
                f"judged on {self.judged_on['count']} images alone: the loss is a guess. Give {FEW_JUDGED} or more "
                "with --judge"
            )
        return tuple(said)

    def quantization(self) -> dict[str, Any]:
        """JSON-ready: what stands in the file's metadata."""
        return {
            "loss": {"of": self.by, "value": self.verdicts["int8"].loss, "bound": self.bound, "met": self.met},
            "layers": self.layers,
            "kept": list(self.kept),
            "verdicts": {name: verdict.to_dict() for name, verdict in self.verdicts.items()},
            "calibrated_on": self.calibrated_on,
            "judged_on": self.judged_on,
            "warnings": list(self.warnings),
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return self.quantization() | {
            "file": None if self.file is None else str(self.file),
            "runtime": self.runtime,
            "size": None if self.size is None else list(self.size),
            "size_bytes": self.size_bytes,
            "gains": self.gains,
            "losses": [{"kept": kept, "loss": loss} for kept, loss in self.losses],
            "speed": self.speeds.to_dict()
            | {
                "fastest_float": self.fastest_float,
                "fastest_int8": self.fastest_int8,
                "times_as_fast": self.times_as_fast,
                "faster": self.faster,
            },
        }
