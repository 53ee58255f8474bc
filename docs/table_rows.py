"""The tables of the documentation: which rows of which cards, and how a column is written (make_tables.py)."""

from functools import partial
from pathlib import Path
from typing import Any

from featherseg.bench.complexity import count
from featherseg.report.tables import Column, render_table

MOBILE_FAMILIES = ("shufflenet_v2", "mobilenet_v2", "efficientnet_lite0")


def camvid_rows(cards: dict[str, dict[str, Any]], *families: str) -> list[dict[str, Any]]:
    """The shipped weights' evaluation cards on CamVid's test split, best first; of networks whose names begin so."""
    shipped = (card for name, card in cards.items() if Path(name).parent == Path("camvid"))
    rows = [card for card in shipped if card["protocol"].endswith("→test")]
    rows = [card for card in rows if not families or card["model"].startswith(families)]
    return sorted(rows, key=lambda card: -card["figures"]["miou"])


def looks(cards: dict[str, dict[str, Any]], *families: str) -> list[dict[str, Any]]:
    """Every evaluation of some families on CamVid's test split there was, in the order of their dates."""
    rows = [card for name, card in cards.items() if name.startswith("camvid/") and card["protocol"].endswith("→test")]
    return sorted((card for card in rows if card["model"].startswith(families)), key=lambda card: card["date"])


def interval(card: dict[str, Any]) -> str:
    low, high = card["figures"]["miou_interval"]
    return f"{low:.1f} to {high:.1f}"


def parameters(card: dict[str, Any]) -> int:
    """Of the network that an evaluation's card judges."""
    return count(card["model"], (360, 480), len(card["figures"]["iou"]), **card.get("arguments", {})).parameters


def balanced_on(card: dict[str, Any]) -> str | None:
    """The split that the biases of the classes were fitted on."""
    return card["balance"]["data"].rpartition("/")[2] if card.get("balance") else None


CAMVID = [
    Column("weights", "weights"),
    Column("parameters", parameters, "{:,}"),
    Column("protocol", "protocol"),
    Column("balanced on", balanced_on),
    Column("mIoU", "figures.miou", "{:.1f}"),
    Column("95 % interval over images", interval),
    Column("boundary IoU", "figures.boundary_iou", "{:.1f}"),
    Column("pixel accuracy", "figures.pixel_accuracy", "{:.1f}"),
    Column("calibration error", "figures.expected_calibration_error", "{:.1f}"),
]
LOOKS = [
    Column("weights", "weights"),
    Column("SHA-256", lambda card: card["weights_sha256"][:12]),
    Column("date", lambda card: card["date"][:10]),
    Column("updates of the last recipe", "trained_steps", "{:,}"),
    Column("balanced on", balanced_on),
    Column("mIoU", "figures.miou", "{:.1f}"),
    Column("95 % interval over images", interval),
]
TRAINING = [
    Column("recipe", "recipe.name"),
    Column("starts from", lambda card: card["recipe"]["start"]["weights"] or card["recipe"]["start"]["encoder"]),
    Column("protocol", "protocol"),
    Column("updates", "steps", "{:,}"),
    Column("images seen", lambda card: card["steps"] * card["recipe"]["train"]["batch_size"], "{:,}"),
    Column("minutes", lambda card: card["wall_seconds"] / 60, "{:.0f}"),
    Column("score on val", "figures.score", "{:.1f}"),
]
COMPLEXITY = [
    Column("row", "row"),
    Column("model", "model"),
    Column("parameters", "ours.parameters", "{:,}"),
    Column("paper", lambda row: row["paper"]["parameters"] / 1e6, "{:.2f} M"),
    Column("conv MACs", lambda row: row["ours"]["conv_macs"] / 1e9, "{:.3f} G"),
    Column("count", lambda row: row["ours"]["count"] / 1e9, "{:.3f} G"),
    Column("paper", "paper.gflops", "{:.1f}"),
]
DRBANET = [
    Column("reading", "row"),
    Column("parameters", "ours.parameters", "{:,}"),
    Column("deployed", "ours.parameters_deployed", "{:,}"),
    Column("paper", lambda row: row["paper"]["parameters"] / 1e6, "{:.1f} M"),
    *(
        Column(name, lambda row, name=name: row["ours"]["gflops_by_counting"][name], "{:.2f} G")
        for name in (
            "multiply-accumulates",
            "with biases, activations and pooling",
            "with biases and batch norm once",
            "with everything, batch norm twice",
        )
    ),
    Column("paper", "paper.gflops", "{:.1f}"),
]
FASTERSEG = [
    Column("row", "row"),
    Column("table", "table"),
    Column("model", "model"),
    Column("parameters", "ours.parameters_deployed", "{:,}"),
    Column("as trained", "ours.parameters_as_trained", "{:,}"),
    Column("paper", lambda row: millions(row["paper"]["parameters"]), "{:.1f} M"),
    Column("conv MACs", lambda row: row["ours"]["conv_macs"] / 1e9, "{:.2f} G"),
    Column("GFLOPs as printed", "ours.gflops", "{:.1f}"),
    Column("paper", "paper.gflops", "{:.1f}"),
    Column("mIoU of the paper, val", "paper.miou", "{:.1f}"),
]
MOBILE = [
    Column("network", "row"),
    Column("table", "table"),
    Column("image", lambda row: "x".join(map(str, row["size"]))),
    Column("parameters", "ours.parameters", "{:,}"),
    Column("conv MACs", lambda row: row["ours"]["conv_macs"] / 1e9, "{:.3f} G"),
    Column("GFLOPs", "ours.gflops", "{:.3f}"),
    Column("paper", "paper.gflops", "{:.2f}"),
    Column("MB", "ours.megabytes", "{:.2f}"),
    Column("paper", "paper.megabytes", "{:.1f}"),
]
PYRAMID = [
    Column("network", "row"),
    Column("classes", "classes"),
    Column("parameters", "ours.parameters", "{:,}"),
    Column("MMACs", "ours.mmacs", "{:.1f}"),
]
PYRAMID_ACCURACY = [
    Column("network", lambda row: row["row"].split(",")[0]),
    Column("data", lambda row: row["row"].split(", ")[1]),
    Column("table", "table"),
    Column("steps", "steps"),
    Column("top-1 of the paper, %", "top1"),
]
MOBILE_HEADS = [
    Column("trunk", "trunk"),
    Column("head", "head"),
    Column("parameters", "parameters", "{:,}"),
    Column("conv MACs", lambda row: row["conv_macs"] / 1e9, "{:.3f} G"),
    Column("of Basic's", lambda row: row["share"], "{:.0%}"),
]
MOBILE_OPTIONS = [
    Column("network", "model"),
    Column("arguments", "arguments"),
    Column("parameters", "parameters", "{:,}"),
    Column("conv MACs", lambda row: row["conv_macs"] / 1e9, "{:.3f} G"),
    Column("of the default's", lambda row: row["share"], "{:.0%}"),
]

STRIDES = [
    Column("network", "network"),
    Column("output stride", "stride"),
    Column("conv MACs", "gmacs", "{:.2f} G"),
    Column("inference, ms", "inference.milliseconds", "{:.0f}"),
    Column("of stride 16", "inference.time_ratio", "{:.2f}"),
    Column("peak memory, MiB", "inference.peak_mib", "{:.0f}"),
    Column("training step, ms", "training.milliseconds", "{:.0f}"),
    Column("of stride 16", "training.time_ratio", "{:.2f}"),
    Column("peak memory, MiB", "training.peak_mib", "{:.0f}"),
]
BOUNDARY_COST = [
    Column("boundary ground truth", "name"),
    Column("median, ms", "milliseconds.median", "{:.1f}"),
    Column("of a training step, %", "share", "{:.1f}"),
]
LITERT = [
    Column("network", "network"),
    Column("image", "image"),
    Column("mean, ms", "mean_ms", "{:.2f}"),
    Column("variance", "variance_ms2", "{:.2f}"),
    Column("of ShuffleNet V2 + Basic", "ratio", "{:.2f}"),
    Column("file, MB", "megabytes", "{:.2f}"),
    Column("paper: mean, ms", "paper.mean_ms", "{:.1f}"),
    Column("variance", "paper.variance_ms2", "{:.2f}"),
    Column("of ShuffleNet V2 + Basic", "paper.ratio", "{:.2f}"),
    Column("file, MB", "paper.megabytes", "{:.1f}"),
]


def mean_and_deviation(row: dict[str, Any], score: str) -> str:
    return f"{row[score]:.1f} ± {row[f'{score}_deviation']:.1f}"


def difference(row: dict[str, Any], score: str) -> str | None:
    """Of a variant to the first, with Student's interval; the first has none."""
    if f"{score}_difference" not in row:
        return None
    low, high = row[f"{score}_difference_interval"]
    return f"{row[f'{score}_difference']:+.1f} ({low:+.1f} to {high:+.1f})"


def exceeds_noise(row: dict[str, Any], score: str) -> str | None:
    return {True: "yes", False: "no"}.get(row.get(f"{score}_exceeds_noise"))  # type: ignore[arg-type]


ABLATION = [
    Column("variant", "variant"),
    *(
        Column(title, partial(written, score=score))
        for score, name in (("miou", "mIoU"), ("boundary_iou", "boundary IoU"))
        for title, written in (
            (f"{name} on val", mean_and_deviation),
            ("difference, 95 % interval", difference),
            ("exceeds the noise", exceeds_noise),
        )
    ),
]


JUDGEMENT = [
    Column("judgement", "name"),
    Column("ms an image", "passed", "{:.1f}"),
    Column("of plain IoU", "share", "{:.2f}"),
    Column("processor ms an image", "processor", "{:.1f}"),
    Column("of plain IoU", "processor_share", "{:.2f}"),
]


def judgement_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The three ways of the official Cityscapes judgement, by the time that passes and by what processors work."""
    rows = []
    for name in ("plain IoU", "with instances", "cityscapesscripts"):
        row: dict[str, Any] = {"name": name}
        for key, unit in (("passed", "ms an image"), ("processor", "processor ms an image")):
            row[key] = figures[f"{name}, {unit}"]["median"]
            share = "share" if key == "passed" else f"{key}_share"
            row[share] = row[key] / figures[f"plain IoU, {unit}"]["median"]
        rows.append(row)
    return rows


CLASSIFIER = [
    Column("network", "model"),
    Column("protocol", "protocol"),
    Column("updates", "steps", "{:,}"),
    Column("minutes", lambda card: card["wall_seconds"] / 60, "{:.0f}"),
    Column("top-1 on val, %", "figures.top1", "{:.1f}"),
    Column("top-5, %", "figures.top5", "{:.1f}"),
]


def classifier_table(card: dict[str, Any]) -> str:
    """One training of a classifier."""
    return render_table([card], CLASSIFIER)


def ablation(card: dict[str, Any]) -> str:
    """The variants of an ablation, first the one that the others are compared with."""
    rows = [{"variant": variant, **row} for variant, row in card["figures"].items()]
    return render_table(sorted(rows, key=lambda row: row["variant"] != card["compared_with"]), ABLATION)


SUPPORT = [
    Column("network", "network"),
    Column("ONNX Runtime", lambda row: support(row, "onnx")),
    Column("OpenVINO", lambda row: support(row, "openvino")),
    Column("LiteRT", lambda row: support(row, "litert")),
    Column("ExecuTorch", lambda row: support(row, "executorch")),
    Column("Core ML", lambda row: support(row, "coreml")),
    Column("TensorRT", lambda row: support(row, "tensorrt") or "not run here"),
]


def support(row: dict[str, Any], runtime: str) -> str | None:
    """What the tests found of a network in a runtime, with the reason where it does not go."""
    found = row["runtimes"].get(runtime)
    return found and ": ".join(found[key] for key in ("status", "reason") if key in found)


def support_table(card: dict[str, Any]) -> str:
    """Every network that any test tried."""
    rows = [{"network": network, "runtimes": runtimes} for network, runtimes in card["figures"].items()]
    return render_table(rows, SUPPORT)


QUANTIZED = [
    Column("weights", "weights"),
    Column("runtime", "figures.runtime"),
    Column(
        "image", lambda card: "any" if card["figures"]["size"] is None else "x".join(map(str, card["figures"]["size"]))
    ),
    Column("judged on", "figures.judged_on.images"),
    Column("mIoU, float32", lambda card: 100 * card["figures"]["verdicts"]["float32"]["miou"], "{:.2f}"),
    Column("int8", lambda card: 100 * card["figures"]["verdicts"]["int8"]["miou"], "{:.2f}"),
    Column("pixels equal, %", lambda card: 100 * card["figures"]["verdicts"]["int8"]["agreement"], "{:.2f}"),
    Column("layers in float32", lambda card: f"{len(card['figures']['kept'])} of {card['figures']['layers']}"),
    Column("MB, float32", lambda card: card["figures"]["size_bytes"]["float32"] / 1e6, "{:.2f}"),
    Column("int8", lambda card: card["figures"]["size_bytes"]["int8"] / 1e6, "{:.2f}"),
    Column("times as fast as the fastest float", "figures.speed.times_as_fast", "{:.2f}"),
]


def quantized(cards: dict[str, dict[str, Any]], *runtimes: str) -> str:
    """What quantising gave, from the cards of `featherseg quantize` for some runtimes."""
    rows = [
        card for card in cards.values() if card["kind"] == "quantization" and card["figures"]["runtime"] in runtimes
    ]
    return render_table(rows, QUANTIZED)


def millions(parameters: float | None) -> float | None:
    return None if parameters is None else parameters / 1e6


def mobile_options() -> list[dict[str, Any]]:
    """What output stride and decoder cost the mobile networks, counted at 360x640."""
    rows = []
    for model in ("shufflenet_v2_basic", "shufflenet_v2_dpc", "mobilenet_v2_dpc", "efficientnet_lite0_dpc"):
        default = count(model, (360, 640))
        for arguments in ({}, {"decoder": True}, {"output_stride": 32}, {"output_stride": 8}):
            counted = count(model, (360, 640), **arguments)
            written = ", ".join(f"{name}={str(value).lower()}" for name, value in arguments.items()) or "default"
            row = {"model": model, "arguments": written, "share": counted.conv_macs / default.conv_macs}
            rows.append({**row, "parameters": counted.parameters, "conv_macs": counted.conv_macs})
    return rows


def mobile_heads() -> list[dict[str, Any]]:
    """What the four heads cost on each trunk, counted at 360x640."""
    rows = []
    for trunk in MOBILE_FAMILIES:
        basic = count(f"{trunk}_basic", (360, 640))
        for head in ("basic", "dpc", "aspp", "deeplab_v3"):
            counted = count(f"{trunk}_{head}", (360, 640))
            row = {"trunk": trunk, "head": head, "share": counted.conv_macs / basic.conv_macs}
            rows.append({**row, "parameters": counted.parameters, "conv_macs": counted.conv_macs})
    return rows


def stride_rows(figures: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """``"MODE, NETWORK, stride N"`` by network and stride, both modes in one row."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for name, measured in figures.items():
        mode, network, stride = name.split(", ")
        number = int(stride.removeprefix("stride "))
        row = rows.setdefault((network, -number), {"network": network, "stride": number, "gmacs": measured["gmacs"]})
        row[mode] = measured
    return [rows[key] for key in sorted(rows)]


def boundary_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The three ways to the boundary ground truth, beside the step they are part of."""
    names = [name.removesuffix(" / step, %") for name in figures if name.endswith(" / step, %")]
    return [
        {"name": name, "milliseconds": figures[f"{name}, ms"], "share": figures[f"{name} / step, %"]} for name in names
    ]


def litert_rows(card: dict[str, Any]) -> list[dict[str, Any]]:
    """``"NETWORK SIDE KIND"`` of the LiteRT card, with the paper's figures where they are of the same files."""
    rows = []
    for name, measured in card["figures"].items():
        if not name.startswith("order"):
            network, side, kind = name.split()
            image = f"{side}x{side}" + (f", {kind}" if kind != "fp32" else "")
            rows.append({"network": network, "image": image, **measured, "paper": card["paper"].get(name, {})})
    return sorted(rows, key=lambda row: (row["image"], row["mean_ms"]))


def printed_accuracies(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pyramid paper's Tables 4 and 5."""
    steps = {"4": "25,000 to 45,000", "5": "30,000 to 50,000"}
    judged = sorted((row for row in rows if row["table"] in steps), key=lambda row: row["table"])
    return [
        {**row, "steps": steps[row["table"]], "top1": " ".join(map(str, row["paper"]["top1_by_steps"]))}
        for row in judged
    ]
