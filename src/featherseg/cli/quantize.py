"""``featherseg quantize``: a network becomes an int8 file that loses no more than was asked."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherseg.cli.common import (
    NOT_SO,
    PROGRAM,
    Card,
    Json,
    TakenSize,
    Threads,
    check_running,
    note,
    parse_size,
    print_json,
    progress_bar,
    table,
)

if TYPE_CHECKING:
    from featherseg.deploy.quantization_report import QuantizationReport

CALLED = {"float32": "float32", "bf16": "bf16", "int8": "int8", "int8_bf16": "int8, rest in bf16"}


def quantize(
    context: typer.Context,
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="A weights file, or the name of shipped weights.")],
    runtime: Annotated[str, typer.Option("--to", help="The runtime: openvino, onnx or litert.")],
    calibrate: Annotated[str, typer.Option(help="A data set or a folder of pictures that sets the ranges.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write (.xml, .onnx, .tflite).")],
    judge: Annotated[
        str | None, typer.Option(help="A data set or a folder to judge on; that of --calibrate, if not given.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split of the data set that judges.")] = "val",
    bound: Annotated[
        float | None,
        typer.Option(help="Lose at most so many points of mIoU (0.3), or without labels percent of the pixels (0.5)."),
    ] = None,
    size: TakenSize = None,
    count: Annotated[int, typer.Option(help="Calibrate on at most so many images.")] = 100,
    judged: Annotated[int | None, typer.Option(help="Judge on at most so many images; on all, if not given.")] = None,
    threads: Threads = None,
    force: Annotated[bool, typer.Option("--force", help="Save it even if it loses more than the bound.")] = False,
    card: Card = None,
    json: Json = False,
) -> None:
    """Quantise a network to 8-bit integers.

    The ranges are set by images of yours; other images judge what is lost against float32. The layers that lose most
    stay in float32 until the loss is under the bound; if it cannot be, nothing is saved (exit code 1). Both are timed,
    and the report says where int8 is not faster. `featherseg predict` and `featherseg eval` take the file in place of
    weights.

    \b
    Example:
      featherseg quantize mine.safetensors --to openvino --calibrate path/to/camvid -o mine.int8.xml
      featherseg quantize mine.safetensors --to onnx --calibrate photos/ --judge path/to/camvid --split val -o mine.onnx
      featherseg quantize mine.safetensors --to litert --size 225x225 --calibrate photos/ -o mine.tflite
    """
    check_running("fp32", threads)
    from featherseg.deploy.export import network_and_metadata
    from featherseg.deploy.quantize import check_request, quantiser_door
    from featherseg.deploy.quantize import quantize as quantize_network
    from featherseg.files import check_writable

    shape = None if size is None else parse_size(size)
    quantiser_door(runtime)
    check_request(runtime, output, shape, bound)
    if card is not None:
        check_writable(card)
    network, about = network_and_metadata(weights)
    if about.get("untrained"):
        note(f"note: {weights} has fresh weights: the file tells size and speed, and labels nothing")
    with _stages() as progress:
        report = quantize_network(
            network,
            about,
            runtime,
            output,
            calibrate=calibrate,
            judge=judge,
            split=split,
            bound=bound,
            size=shape,
            count=count,
            judged=judged,
            force=force,
            progress=progress,
        )
    if json:
        print_json(report.to_dict())
    else:
        _show(report)
    if card is not None:
        _write_card(card, report, weights, [PROGRAM, *context.obj])
    if report.by == "agreement":
        note("note: judged without labels of its classes: the loss is pixels labelled otherwise, right or wrong")
    for warning in report.warnings:
        note(f"warning: {warning}")
    if not report.faster:
        faster, other = "hardly" if report.times_as_fast > 1 else "not", CALLED[report.fastest_float]
        note(
            f"note: int8 is {faster} faster than {other} here ({report.times_as_fast:.2f} times as fast); run that "
            "instead"
        )
    if report.file is None:
        lost = report.verdicts["int8"].loss
        note(
            f"{output} was not written: at best it loses {lost:.2f} {_unit(report)}, more than {report.bound:g}. "
            "--bound allows more, --count 300 calibrates on more images, and --force keeps it all the same."
        )
        raise typer.Exit(NOT_SO)


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each part in turn, which is named when it begins."""
    with ExitStack() as stack:
        bars: dict[str, Callable[..., None]] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars:
                stack.close()
                bars.clear()
                note(what)
                bars[what] = stack.enter_context(progress_bar(what))
            bars[what](done, total)

        yield progress


def _write_card(file: Path, report: "QuantizationReport", weights: str, command: list[str]) -> None:
    from featherseg.cards import card, write_card

    figures = report.to_dict()
    del figures["file"]
    size = "any size" if report.size is None else f"{report.size[0]}x{report.size[1]}"
    made = card(
        "quantization",
        protocol=f"{report.runtime}/{size}/calibrated on {report.calibrated_on['images']}, judged on "
        f"{report.judged_on['images']}",
        figures=figures,
        command=command,
        seeds=[],
        data_fingerprint=None,
        weights=weights,
        saved=report.file is not None,
    )
    note(f"card: {write_card(file, made)}")


def _unit(report: "QuantizationReport") -> str:
    return "points of mIoU" if report.by == "mIoU" else "% of the pixels"


def _show(report: "QuantizationReport") -> None:
    kept = f"{len(report.kept)} of {report.layers} layers"
    rows = [
        ("file", report.file or "not written"),
        ("images", "any size" if report.size is None else f"{report.size[0]}x{report.size[1]}"),
        ("bytes", f"{report.size_bytes['int8']:,} (float32 {report.size_bytes['float32']:,})"),
        ("calibrated on", f"{report.calibrated_on['count']} images of {report.calibrated_on['images']}"),
        ("judged on", f"{report.judged_on['count']} images of {report.judged_on['images']}"),
        ("loss", f"{report.verdicts['int8'].loss:.2f} {_unit(report)}; bound {report.bound:g}"),
        ("in float32", kept + "".join(f"\n  {name}" for name in report.kept)),
        (
            "times as fast",
            f"{report.times_as_fast:.2f} ({CALLED[report.fastest_int8]} against {CALLED[report.fastest_float]})",
        ),
    ]
    typer.echo(table(("", report.runtime), rows) + "\n")
    columns = ("precision", "mIoU, %", "pixels as float32, %", "p50, ms")
    lines = [
        (
            CALLED[name],
            None if verdict.miou is None else 100 * verdict.miou,
            100 * verdict.agreement,
            report.speeds.p50(name),
        )
        for name, verdict in report.verdicts.items()
    ]
    typer.echo(table(columns, lines))
