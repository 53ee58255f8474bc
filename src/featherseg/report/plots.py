"""The pictures of a report, as PNG bytes.

Choices worth knowing:

- Figures are built as objects on the Agg canvas; pyplot and its global state are never touched, so nothing opens a
  window, leaks figures or depends on the user's matplotlib backend.
- PNGs carry no software tag or date: the same numbers give the same bytes.
- White ground, in dark pages too: class colours are compared against the same white everywhere.
- Fractions come in, percent is shown.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featherseg.data.colour import Palette, colourise, legend_strip
from featherseg.data.labels import IGNORE, LabelSet
from featherseg.metrics.calibration import CalibrationCounts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, ACCENT, SECOND, FAINT = "#222222", "#1f6feb", "#d9480f", "#b8c4d6"
WRONG = (230, 60, 40)
UNJUDGED = (40, 44, 72)
# Above this many classes the numbers in a confusion picture are too small to read.
CLASSES_WITH_NUMBERS = 24


def loss_curve(
    rows: Sequence[Mapping[str, Any]], *, step: str = "step", loss: str = "loss", score_name: str = "mIoU"
) -> bytes:
    """Training loss over steps, with the validation score on a second axis where the log holds judgings.

    Args:
        rows: of ``log.jsonl``: entries with ``loss``, and judgings whose ``evaluation`` has a ``score`` in percent;
            values that are no finite number are passed over.
        step: key of the abscissa.
        loss: key of the training loss.
        score_name: what the score is.
    """
    steps, losses = _series(rows, step, loss)
    judged = [{step: row.get(step), "score": row["evaluation"].get("score")} for row in rows if "evaluation" in row]
    scored, scores = _series(judged, step, "score")
    figure = _figure(8.0, 3.6)
    axes = figure.add_subplot()
    if len(losses):
        middles, smooth = _medians(steps, losses)
        axes.plot(steps, losses, color=FAINT, linewidth=0.8, label="loss as logged")
        axes.plot(middles, smooth, color=ACCENT, linewidth=1.8, label="loss, running median")
        # A spike in the first steps must not flatten all that follows.
        top = float(np.quantile(losses, 0.99)) * 1.1
        axes.set_ylim(0, max(top, float(smooth[-1]) * 1.2, 1e-6))
    else:
        axes.text(0.5, 0.5, "no loss was logged", transform=axes.transAxes, ha="center", color=INK)
    axes.set_xlabel(step)
    axes.set_ylabel("loss")
    axes.grid(color="#e6e6e6")
    handles, names = axes.get_legend_handles_labels()
    if len(scores):
        right = axes.twinx()
        right.plot(
            scored, scores, color=SECOND, linewidth=1.6, marker="o", markersize=3, label=f"validation {score_name}"
        )
        right.set_ylabel(f"{score_name}, %")
        right.set_ylim(0, 100)
        more_handles, more_names = right.get_legend_handles_labels()
        handles, names = handles + more_handles, names + more_names
    if handles:
        axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=3, frameon=False, fontsize=9)
    return _png(figure)


def iou_bars(
    labels: LabelSet, iou: np.ndarray, reference: np.ndarray | None = None, reference_name: str = "paper"
) -> bytes:
    """One bar a class, in class colours, with its value.

    Args:
        labels: names and colours of the K classes.
        iou: fractions ``[K]``; NaN is shown as "absent".
        reference: other fractions ``[K]``, marked by a diamond on each bar.
        reference_name: whose they are.
    """
    if len(iou) != len(labels):
        raise ValueError(f"{len(iou)} scores for the {len(labels)} classes of {labels.name}")
    percent = 100 * np.asarray(iou, np.float64)
    present = ~np.isnan(percent)
    figure = _figure(7.0, 1.1 + 0.32 * len(labels))
    axes = figure.add_subplot()
    rows = np.arange(len(labels))
    colours = [tuple(channel / 255 for channel in colour) for colour in labels.palette]
    axes.barh(rows, np.nan_to_num(percent), color=colours, edgecolor="#55555580", linewidth=0.6, height=0.74)
    for row, value in enumerate(percent):
        text = f"{value:.1f}" if present[row] else "absent"
        axes.text(101.5, row, text, va="center", fontsize=9, color=INK)
    if reference is not None:
        look = {"marker": "D", "s": 26, "facecolor": "white", "edgecolor": "black", "linewidth": 0.9, "zorder": 3}
        axes.scatter(100 * np.asarray(reference), rows, label=reference_name, **look)
    if present.any():
        mean = float(percent[present].mean())
        axes.axvline(mean, color=ACCENT, linewidth=1.2, linestyle="--", label=f"mean {mean:.1f}")
    axes.set_yticks(rows, [_plain(name) for name in labels.classes])
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("IoU, %")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
    return _png(figure)


def confusion_picture(confusion: np.ndarray, labels: LabelSet) -> bytes:
    """The confusion matrix, each row as shares of the true class in percent, with the pixel counts below.

    Args:
        confusion: counts ``[K, K]``, rows truth, columns prediction.
        labels: names of the K classes.
    """
    classes = len(labels)
    if confusion.shape != (classes, classes):
        raise ValueError(f"a confusion matrix of {confusion.shape} for the {classes} classes of {labels.name}")
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    side = 2.4 + min(0.66, 15 / classes) * classes
    figure = _figure(side, side * 0.92)
    axes = figure.add_subplot()
    # The square root keeps confusions of a few percent visible beside a diagonal near one.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if classes <= CLASSES_WITH_NUMBERS:
        for row in range(classes):
            for column in range(classes):
                if not confusion[row, column]:
                    continue
                colour = "white" if shares[row, column] > 0.35 else INK
                axes.text(column, row - 0.12, f"{100 * shares[row, column]:.1f}", **_centred(8, colour))
                axes.text(column, row + 0.24, _compact(int(confusion[row, column])), **_centred(6.5, colour))
    names = [_plain(name) for name in labels.classes]
    axes.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    counted = [f"{name} ({_compact(int(total))})" for name, total in zip(names, totals[:, 0], strict=True)]
    axes.set_yticks(range(classes), counted, fontsize=9)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (pixels)")
    axes.set_title("share of each true class in %, pixels below", fontsize=10, color=INK)
    axes.tick_params(length=0)
    return _png(figure)


def reliability_diagram(counts: CalibrationCounts) -> bytes:
    """Accuracy over confidence, bin by bin; the dashed line is perfect calibration."""
    accuracy = counts.accuracy_per_bin()
    bins = len(accuracy)
    centres = (np.arange(bins) + 0.5) / bins
    figure = _figure(4.6, 4.2)
    axes = figure.add_subplot()
    share = counts.pixels / max(1, int(counts.pixels.sum()))
    axes.bar(centres, np.nan_to_num(accuracy), width=0.94 / bins, color=ACCENT, alpha=0.75, label="accuracy")
    axes.plot(centres, share, color=SECOND, marker="o", markersize=3, linewidth=1, label="share of pixels")
    axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_title(f"expected calibration error {100 * counts.expected_error():.2f} %", fontsize=10, color=INK)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return _png(figure)


def strip(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, palette: Palette, gap: int = 6) -> np.ndarray:
    """Image, truth, prediction and disagreement, side by side.

    Args:
        image: uint8 RGB ``[H, W, 3]``.
        truth: uint8 ids ``[H, W]``, 255 = ignore.
        prediction: uint8 ids ``[H, W]``.
        palette: one RGB colour for each id.
        gap: white pixels between the panels.

    Returns:
        uint8 RGB ``[H, 4 W + 3 gap, 3]``.
    """
    panels = [
        image,
        colourise(truth, palette),
        colourise(prediction, palette),
        disagreement(image, truth, prediction),
    ]
    white = np.full((image.shape[0], gap, 3), 255, np.uint8)
    return np.hstack([part for panel in panels for part in (panel, white)][:-1])


def disagreement(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The image in light grey, wrong pixels in red, ignored ones in dark blue: uint8 RGB ``[H, W, 3]``."""
    grey = (image @ np.array([0.299, 0.587, 0.114])) * 0.55 + 110
    out = np.repeat(grey[..., None].astype(np.uint8), 3, axis=2)
    out[truth != prediction] = WRONG
    out[truth == IGNORE] = UNJUDGED
    return out


def legend(labels: LabelSet, width: int = 960) -> bytes:
    """Names and colours of every class of the label set."""
    return image_png(legend_strip(labels, range(len(labels)), width))


def image_png(image: np.ndarray, max_width: int | None = None) -> bytes:
    """A uint8 RGB array ``[H, W, 3]`` as PNG bytes, reduced to ``max_width`` columns if it has more."""
    from PIL import Image

    picture = Image.fromarray(image)
    if max_width is not None and picture.width > max_width:
        height = max(1, round(picture.height * max_width / picture.width))
        picture = picture.resize((max_width, height), Image.Resampling.BOX)
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()


def _series(rows: Sequence[Mapping[str, Any]], step: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row[step], row[key]) for row in rows if _finite(row.get(step)) and _finite(row.get(key))]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(steps, np.float64), np.array(values, np.float64)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _medians(steps: np.ndarray, values: np.ndarray, groups: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Median of each of at most ``groups`` runs of rows, at the median step: a spike moves it little."""
    parts = np.array_split(np.arange(len(values)), min(groups, max(1, len(values) // 4)))
    medians = [(np.median(steps[part]), np.median(values[part])) for part in parts]
    middles, smooth = zip(*medians, strict=True)
    return np.array(middles), np.array(smooth)


def _compact(count: int) -> str:
    """A count in at most five characters: 947, 12.3k, 4.56M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999,950 and more would round to a thousand of the smaller unit.
        if count >= size * 0.9995:
            scaled = count / size
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{unit}"
    return str(count)


def _plain(name: str) -> str:
    """A class name that matplotlib will not read as mathematics."""
    return name.replace("$", r"\$")


def _centred(size: float, colour: str) -> dict[str, Any]:
    return {"ha": "center", "va": "center", "fontsize": size, "color": colour}


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: "Figure") -> bytes:
    for axes in figure.axes:
        axes.spines["top"].set_visible(False)
        if axes.yaxis.get_label_position() == "left":
            axes.spines["right"].set_visible(False)
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
