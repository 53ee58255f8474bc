"""The costs printed by Yang et al. 2021, by FasterSeg's authors and by HRNet's, beside our networks, with 19 classes.

Everything is at 1024x2048, and "FLOPs" are multiply-accumulates everywhere. Who counts what:

- Yang et al. (Tables 1 and 3) cut 27.77 to 27, and count the parameters of a deployed network;
- FasterSeg's authors count a network as it is built for training, with two heads and a part that never run;
- HRNet's README divides by 1024^3.

``parameters`` and ``gflops`` of ours are counted as the row's source counts; ``published_code`` holds what the
published code itself measures, to the unit, where there is any; None stands where nothing is printed. Accuracies are
mIoU in percent on Cityscapes val, of Yang et al. with crops of 512x1024 (``miou``) and of 256x512
(``miou_small_crops``); ``miou_test`` and ``miou_test_small_crops`` are on test.
"""

from typing import Any

from featherseg.bench.complexity import count

CITYSCAPES_SIZE = (1024, 2048)
GIBI = 1024**3

_STUDENT_TEST = {"miou_test": 69.3, "miou_test_small_crops": 57.7}
_VIRTUAL_TEST = {"miou_test": 69.7, "miou_test_small_crops": 60.2}
# (row, network, table, parameters, GFLOPs, mIoU with large and with small crops, further figures)
_YANG = (
    ("Baseline student net", "fasterseg_student", "1", 3_400_000, 27.0, 71.1, 60.1, _STUDENT_TEST),
    ("Tutor net w. 1/4-path", "fasterseg_tutor", "1", 3_900_000, 100.0, 73.0, 63.6, {}),
    ("Student net (w. virtual 1/4-path)", "fasterseg_student", "1", 3_400_000, 27.0, 72.3, 62.2, _VIRTUAL_TEST),
    ("Original net", "fasterseg_student", "3", 3_400_000, 27.0, 71.1, 60.1, {}),
    ("Our net with dep. sep. conv & PS", "fasterseg_student_ps", "3", 3_300_000, 27.0, 72.5, 62.0, {}),
)
# Of the published code, measured: as built for training, deployed, conv MACs in 10^9; the teacher's are not printed.
_FASTERSEG = (
    (
        "FasterSeg",
        "fasterseg_student",
        {"parameters": 4_400_000, "gflops": 28.2, "miou": 73.1, "miou_test": 71.5, "fps": 163.9},
        {"parameters": 4_385_689, "parameters_deployed": 3_421_875, "conv_gmacs": 27.770},
    ),
    (
        "FasterSeg's teacher",
        "fasterseg_teacher",
        {"parameters": None, "gflops": None},
        {"parameters": 23_524_137, "parameters_deployed": 22_115_203, "conv_gmacs": 107.78},
    ),
)
# (row, network, parameters and GFLOPs of the README, mIoU, parameters and conv MACs in 10^9 of the published code)
_HRNET = (
    ("HRNetV2-W18-Small-v1", "hrnet_w18_small_v1", 1_500_000, 31.1, 70.3, 1_540_819, 33.39),
    ("HRNetV2-W18-Small-v2", "hrnet_w18_small_v2", 3_900_000, 71.6, 76.2, 3_939_579, 76.86),
    ("HRNetV2-W48", "hrnet_w48", 65_800_000, 696.2, 80.9, 65_859_379, 747.5),
    ("HRNetV2-W48 + OCR", "hrnet_w48_ocr", None, None, 81.6, 70_372_678, 1295.3),
)


def _ours(model: str, *, deployed: bool = False, gibi: bool = False, **arguments: Any) -> dict[str, Any]:
    counted = count(model, CITYSCAPES_SIZE, **arguments)
    return {
        "gflops": counted.conv_macs / (GIBI if gibi else 1e9),
        "parameters": counted.parameters_deployed if deployed else counted.parameters,
        "parameters_as_trained": counted.parameters,
        "parameters_deployed": counted.parameters_deployed,
        "conv_macs": counted.conv_macs,
        "matrix_macs": counted.matrix_macs,
    }


def rows() -> list[dict[str, Any]]:
    """Each row: ``{"row", "model", "table", "paper", "ours"}``, and ``"published_code"`` where that was measured."""
    found: list[dict[str, Any]] = []
    counted = {model: _ours(model, deployed=True) for model in dict.fromkeys(row[1] for row in _YANG)}
    for row, model, table, parameters, gflops, miou, small, more in _YANG:
        paper = {"gflops": gflops, "parameters": parameters, "miou": miou, "miou_small_crops": small, **more}
        found.append({"row": row, "model": model, "table": table, "paper": paper, "ours": counted[model]})
    for row, model, paper, measured in _FASTERSEG:
        ours = _ours(model, published_extras=True)
        named = {"row": row, "model": model, "arguments": {"published_extras": True}, "table": "FasterSeg"}
        found.append({**named, "paper": paper, "ours": ours, "published_code": measured})
    for row, model, parameters, gflops, miou, exact, macs in _HRNET:
        paper = {"gflops": gflops, "parameters": parameters, "miou": miou}
        measured = {"parameters": exact, "parameters_deployed": exact, "conv_gmacs": macs}
        named = {"row": row, "model": model, "table": "HRNet's README"}
        found.append({**named, "paper": paper, "ours": _ours(model, gibi=True), "published_code": measured})
    return found
