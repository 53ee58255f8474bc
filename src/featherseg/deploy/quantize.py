"""From trained weights to an int8 file: calibrated on images, judged on others, and no worse than was asked.

Choices worth knowing:

- What the int8 program is held against is the float32 program of the same runtime, which must label as PyTorch does.
- Layers stay in float32 until the loss is under the bound; which ones is measured (deploy/quantization_search.py), on
  images that set the ranges.
- Where OpenVINO computes in bfloat16, that is timed and judged too, as float and as the float part of the int8 file:
  int8 that is slower than bfloat16 is of no use there, and the report says so.
- What makes a figure doubtful or the file pointless refuses nothing, and is warned of (deploy/quantization_report.py).
- Nothing is written if the bound cannot be met, unless it is forced, and then the metadata say so.
"""

from collections.abc import Callable, Collection, Sequence
from importlib import import_module, metadata
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from featherseg.data.labels import LabelSet
from featherseg.deploy.carried import carried
from featherseg.deploy.doors import DOORS, Runtime, open_door
from featherseg.deploy.parity import compare
from featherseg.deploy.quantization_images import quantization_images
from featherseg.deploy.quantization_judge import Judge, Labels, Progress, Verdict, labels_by
from featherseg.deploy.quantization_kind import unlike_training
from featherseg.deploy.quantization_report import QuantizationReport
from featherseg.deploy.quantization_search import Kept, ranked, restore
from featherseg.deploy.quantization_speed import measure
from featherseg.deploy.segmenter import label_set_of
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write, check_writable
from featherseg.models.output import InputSpec

LOSSES = {"mIoU": 0.3, "agreement": 0.5}
"""The bound where none is asked for: points of mIoU, or percent of the pixels labelled otherwise."""
RANKING_IMAGES = 8
_TIMED, _CHECKED = 4, 2


class Quantiser(Protocol):
    """A float32 program, calibrated."""

    layers: tuple[str, ...]

    def program(self, kept: Collection[str]) -> Any: ...


class Quantisers(Protocol):
    """What the module that quantises for a runtime offers."""

    PACKAGES: tuple[str, ...]
    Quantiser: Callable[..., Quantiser]


def quantiser_door(runtime: str) -> tuple[Runtime, Quantisers]:
    """The runtime's module and the one that quantises for it.

    Raises:
        FeathersegError: there is no such runtime, or a package is not installed.
    """
    _, module = open_door(runtime)
    quantisers = cast(Quantisers, import_module(f"featherseg.deploy.quantization_{runtime}"))
    missing = [name for name in quantisers.PACKAGES if find_spec(name) is None]
    if missing:
        packages = ", ".join(name.replace("_", "-") for name in missing)
        raise FeathersegError(
            f"quantising for {runtime} needs {packages}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install 'featherseg[{DOORS[runtime].extra}]'"
        )
    return module, quantisers


def check_request(runtime: str, output: Path, size: tuple[int, int] | None, bound: float | None) -> None:
    """Refuse what cannot be asked for, before anything is read.

    Raises:
        FeathersegError: another suffix, no size where one is needed, a bound below nothing, or a folder that cannot be
            written.
    """
    door = DOORS[runtime]
    if output.suffix != door.suffix:
        raise FeathersegError(f"-o {output}: {runtime} files end in {door.suffix}. Name it so.")
    if size is None and not door.any_size:
        raise FeathersegError(f"{runtime} files take images of one size. Name it: --size 225x225.")
    if bound is not None and not 0 <= bound <= 100:
        raise FeathersegError(f"--bound {bound:g}: a loss is 0 to 100 points. Give one such as 0.3.")
    check_writable(output)


def quantize(
    network: nn.Module,
    about: dict[str, Any],
    runtime: str,
    output: str | Path,
    *,
    calibrate: str | Path,
    judge: str | Path | None = None,
    split: str = "val",
    bound: float | None = None,
    size: tuple[int, int] | None = None,
    count: int = 100,
    judged: int | None = None,
    force: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> QuantizationReport:
    """Quantise a network, restore what loses too much, and save it.

    Args:
        network: a segmentation network with trained weights, on any device.
        about: the metadata of its weights.
        runtime: a key of ``DOORS``.
        output: the file to write; what belongs to it (OpenVINO's ``.bin``) is written beside it.
        calibrate, judge, split, count, judged: see
            :func:`featherseg.deploy.quantization_images.quantization_images`.
        bound: for the loss, see ``LOSSES``.
        size: (H, W) of the images it will take; any, if None, where the runtime can.
        force: save it though it loses more than the bound.
        progress: gets what is done, and how many of how many steps of it are.

    Raises:
        FeathersegError: an unknown runtime, a missing package, images that cannot be used, or a network that the
            runtime's converter or quantiser does not carry.
    """
    module, quantisers = quantiser_door(runtime)
    check_request(runtime, Path(output), size, bound)
    images = quantization_images(calibrate, judge, split, size, count=count, judged=judged)
    labels = label_set_of(about, str(about.get("architecture")))
    same_classes = images.labels is not None and images.labels.classes == labels.classes
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    network = network.cpu().eval()
    door = DOORS[runtime]
    progress("converting", 0, 1)
    batch = None if door.any_size else 1
    content = module.convert(module.make_graph(network, size=size, batch=batch, output=door.outputs[0]))

    def running(program: Any, precision: str = "fp32") -> Labels:
        session = module.open_session(
            program, f"the {runtime} program", threads=torch.get_num_threads(), precision=precision
        )
        return labels_by(session, spec)

    float32 = running(content)
    shown = [(sample.key, sample.image) for sample in islice(images.judging, max(_TIMED, _CHECKED))]
    parity = compare(network, float32, shown[:_CHECKED], "fp32")
    if not parity.passed:
        raise FeathersegError(
            f"the float32 program labels {parity.different:,} of {parity.pixels:,} pixels otherwise than PyTorch, so "
            f"that int8 cannot be held against it. `featherseg export --to {runtime}` tells where they differ."
        )
    unlike = None if about.get("untrained") else unlike_training(network, images.calibration)
    quantiser = quantisers.Quantiser(content, images.calibration, progress)
    judging = Judge(images.judging, labels if same_classes else None, float32, progress)
    bound = LOSSES[judging.by] if bound is None else bound
    gains: dict[str, float] = {}

    def rank() -> list[str]:
        sample = Judge(images.calibration.spread(RANKING_IMAGES), None, float32)
        found = ranked(
            quantiser.layers,
            lambda kept: sample.differing(running(quantiser.program(kept))),
            lambda done, total: progress("ranking layers", done, total),
        )
        gains.update(found)
        return list(found)

    def judge_kept(kept: Kept) -> Verdict:
        return judging.judge(running(quantiser.program(kept)), f"int8 with {len(kept)} layers in float32")

    found = restore(bound, quantiser.layers, judge_kept, lambda verdict: verdict.loss, rank)
    program = quantiser.program(found.kept)
    programs = {"float32": float32, "int8": running(program)}
    verdicts = {"float32": judging.reference, "int8": found.verdict}
    if getattr(module, "has_bf16", bool)():
        programs |= {"bf16": running(content, "bf16"), "int8_bf16": running(program, "bf16")}
        verdicts |= {name: judging.judge(programs[name], name) for name in ("bf16", "int8_bf16")}
    progress("timing", 0, 1)
    speeds = measure(programs, [image for _, image in shown if image.shape == shown[0][1].shape])
    fastest_float = speeds.fastest([name for name in programs if "int8" not in name])
    fastest_int8 = speeds.fastest([name for name in programs if "int8" in name])
    report = QuantizationReport(
        file=Path(output) if found.met or force else None,
        runtime=runtime,
        size=size,
        size_bytes={"float32": _bytes(module, content), "int8": _bytes(module, program)},
        layers=len(quantiser.layers),
        kept=found.kept,
        gains=gains,
        losses=found.losses,
        by=judging.by,
        bound=bound,
        met=found.met,
        verdicts=verdicts,
        speeds=speeds,
        fastest_float=fastest_float,
        fastest_int8=fastest_int8,
        times_as_fast=speeds.times_as_fast(fastest_int8, fastest_float),
        calibrated_on={"images": images.calibrated_on, "count": len(images.calibration)},
        judged_on={"images": images.judged_on, "count": len(images.judging)},
        unlike=unlike,
    )
    if report.file is not None:
        values = _metadata(about, labels, report, [name.replace("_", "-") for name in quantisers.PACKAGES])
        for suffix, part in module.files(module.with_metadata(program, values)).items():
            atomic_write(report.file.with_suffix(suffix), part)
    return report


def _bytes(module: Runtime, content: Any) -> int:
    return sum(map(len, module.files(content).values()))


def _metadata(
    about: dict[str, Any], labels: LabelSet, report: QuantizationReport, packages: Sequence[str]
) -> dict[str, Any]:
    """What travels in the file, as of every export, and what became of quantising."""
    door = DOORS[report.runtime]
    return carried(about, labels_alike=False) | {
        "label_set": labels.name,
        "classes": list(labels.classes),
        "palette": [list(colour) for colour in labels.palette],
        "export": {
            "runtime": report.runtime,
            "precision": "int8",
            "size": None if report.size is None else list(report.size),
            "batch": None if door.any_size else 1,
            "output": door.outputs[0],
            "quantization": report.quantization(),
            "versions": {name: metadata.version(name) for name in ("torch", *packages)},
        },
    }
