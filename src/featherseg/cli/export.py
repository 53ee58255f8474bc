"""``featherseg export``: a network becomes a file that another runtime runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherseg.cli.common import NOT_SO, Json, TakenSize, note, parse_size, print_json, table

if TYPE_CHECKING:
    from featherseg.deploy.export import ExportReport

OPERATORS_SHOWN = 8


def export(
    source: Annotated[
        str, typer.Argument(metavar="MODEL_OR_WEIGHTS", help="Weights, or a network by its name with fresh weights.")
    ],
    runtime: Annotated[
        str, typer.Option("--to", help="The runtime: onnx, openvino, litert, executorch, tensorrt or coreml.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write (.onnx, .xml, .tflite, .pte, .engine, .mlpackage)."),
    ],
    size: TakenSize = None,
    batch: Annotated[int | None, typer.Option(help="How many images at once; any number, if not given.")] = None,
    ends: Annotated[
        str | None,
        typer.Option(help="logits at the network's stride (default), full-size logits (full), or labels (of litert)."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8-bit integers.")] = False,
    calibrate: Annotated[
        str | None, typer.Option(help="For --int8: a data set or a folder of pictures; else street scenes.")
    ] = None,
    count: Annotated[int, typer.Option(help="For --int8: calibrate on at most so many images.")] = 100,
    pictures: Annotated[
        str | None, typer.Option(help="Compare on images of this data set or folder, instead of street scenes.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Save it even if it does not label as PyTorch does.")] = False,
    json: Json = False,
) -> None:
    """Export a network to another runtime.

    uint8 RGB pixels go into the file, which normalises them; out come logits or class ids. The file is run and compared
    with PyTorch in float32, and is not saved if it labels pixels otherwise (exit code 1). `featherseg predict` and
    `featherseg eval` take it in place of weights. Files for TensorRT and Core ML are not run: what they are made of is
    compared.

    \b
    Example:
      featherseg export mine.safetensors --to openvino -o mine.xml
      featherseg export mine.safetensors --to onnx --size 512x1024 --batch 1 --ends labels -o mine.onnx
      featherseg export mine.safetensors --to litert --size 225x225 -o mine.tflite
      featherseg export mine.safetensors --to executorch --size 360x480 -o mine.pte
      featherseg export mine.safetensors --to litert --size 225x225 --int8 --calibrate photos/ -o mine.int8.tflite
    """
    from featherseg.deploy.export import export as export_network
    from featherseg.deploy.export import network_and_metadata, open_door

    shape = None if size is None else parse_size(size)
    open_door(runtime)
    network, about = network_and_metadata(source)
    if about.get("untrained"):
        note(f"note: {source} has fresh weights: the file tells size and speed, and labels nothing")
    if int8 and calibrate is None:
        note("note: calibrated on generated street scenes; --calibrate takes images of the kind it will see")
    report = export_network(
        network,
        about,
        runtime,
        output,
        size=shape,
        batch=batch,
        ends=ends,  # type: ignore[arg-type]
        int8=int8,
        calibrate=calibrate,
        count=count,
        pictures=pictures,
        force=force,
        told=note,
    )
    if json:
        print_json(report.to_dict())
    else:
        _show(report)
    for warning in report.warnings:
        note(f"warning: {warning}")
    if report.compared:
        note(f"note: featherseg does not run {report.runtime} files; compared with PyTorch was {report.compared}")
    if report.file is None:
        note(f"{output} was not written: it does not label as PyTorch does. --force keeps it all the same.")
        raise typer.Exit(NOT_SO)


def _images(report: "ExportReport") -> str:
    size = "any size" if report.size is None else f"{report.size[0]}x{report.size[1]}"
    return f"{size}, {'any number' if report.batch is None else report.batch} at once"


def _most_frequent(operators: Mapping[str, int]) -> str:
    """The operators that occur most, and how many kinds of others there are; --json has all."""
    ordered = sorted(operators.items(), key=lambda one: -one[1])
    said = [f"{name} {number}" for name, number in ordered[:OPERATORS_SHOWN]]
    return ", ".join([*said, f"{len(ordered) - OPERATORS_SHOWN} other kinds"] if len(ordered) > len(said) else said)


def _show(report: "ExportReport") -> None:
    parity = report.parity
    rows = [
        ("file", report.file or "not written"),
        ("runtime, precision", f"{report.runtime}, {report.precision}"),
        ("images", _images(report)),
        ("ends in", report.output),
        ("bytes", f"{report.size_bytes:,}"),
        ("operators", _most_frequent(report.operators)),
        ("bound", parity.bound),
        ("compared", report.compared or "the file"),
        ("pixels compared", f"{parity.pixels:,} of {parity.pictures} pictures"),
        ("pixels that differ", f"{parity.different:,}, ties {parity.ties:,} ({parity.agreement:.4%} equal)"),
    ]
    if report.bf16:
        verdict = "" if report.bf16.passed else ", less than the bound: do not run it in bf16"
        rows.append(("in bf16", f"{report.bf16.agreement:.4%} equal; {report.bf16.bound}{verdict}"))
    if report.calibrated_on:
        rows.append(("calibrated on", f"{report.calibrated_on['count']} images of {report.calibrated_on['images']}"))
    if report.miou:
        rows += [(f"mIoU, {name}", f"{value:.2%}") for name, value in report.miou.items()]
    for item in parity.where:
        said = f"{item.picture} row {item.row} column {item.column}"
        rows.append(("differs", f"{said}: {item.given} instead of {item.expected}, margin {item.margin:.2g}"))
    typer.echo(table(("", report.runtime), rows))
