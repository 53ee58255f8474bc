"""``featherseg choose``: which network, runtime, precision and input scale to take on this machine."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from featherseg.cli.common import (
    NOT_SO,
    PROGRAM,
    Card,
    ClassNames,
    Device,
    Json,
    Precisions,
    Runtimes,
    check_running,
    listed,
    note,
    parse_size,
    print_json,
    table,
)
from featherseg.cli.eval import parse_scales
from featherseg.errors import FeathersegError


def choose(
    context: typer.Context,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WEIGHTS_OR_FILE",
            help="Weights, exported or int8 files, networks by name; all shipped weights, if none is named.",
        ),
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames a second to reach, in nine frames of ten.")] = 30.0,
    size: Annotated[
        str | None,
        typer.Option(help="Image, height x width; that of --data or of the accuracies, if not given."),
    ] = None,
    device: Device = "cpu",
    limit: Annotated[float, typer.Option(help="Seconds for all of it.")] = 120.0,
    data: Annotated[str | None, typer.Option(help="Judge the candidates on this: a folder, a YAML, 'streets'.")] = None,
    split: Annotated[str, typer.Option(help="With --data: which split.")] = "val",
    images: Annotated[int, typer.Option(help="With --data: judge on at most so many images.")] = 50,
    cards: Annotated[
        list[str] | None, typer.Option(help="Cards of `featherseg eval --card`, or a folder of them, for accuracies.")
    ] = None,
    runtime: Runtimes = None,
    precision: Precisions = None,
    scales: Annotated[str | None, typer.Option(help="Input scales; 1,0.75,0.5 with --data, else 1.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of every runtime; PyTorch's number, if not given.")] = None,
    classes: ClassNames = None,
    every: Annotated[bool, typer.Option("--all", help="Show the dominated candidates too.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy over time into this PNG file.")] = None,
    card: Card = None,
    json: Json = False,
) -> None:
    """Choose a network for this machine: the most accurate that is fast enough.

    Every candidate (network, runtime, precision, input scale) is timed here from uint8 image to uint8 label map, those
    near the Pareto front and the wanted rate longest. It is fast enough if nine frames of ten take at most 1000/fps ms.
    Accuracies are those that weights and cards carry, or are judged on --data; a candidate whose accuracy nobody knows
    is never chosen. Exit code 1: none is fast enough, or nothing is known.

    \b
    Example:
      featherseg choose --fps 30 --size 360x480
      featherseg choose --fps 60 --data path/to/camvid --plot front.png --all
      featherseg choose mine.safetensors mine.int8.xml --data path/to/mine --limit 300
    """
    shape = None if size is None else parse_size(size)
    if plot is not None and plot.suffix.lower() != ".png":
        raise FeathersegError(f"--plot {plot}: pictures are PNG files. Name it so.")
    from featherseg.bench.choose import Choice
    from featherseg.bench.choose import choose as find
    from featherseg.deploy.session import Precision

    precisions = listed(precision)
    for one in precisions or ():
        check_running(one, None, get_args(Precision))
    choice = Choice(
        tuple(given or ()),
        fps=fps,
        size=shape,
        runtimes=listed(runtime),
        precisions=precisions,  # type: ignore[arg-type]
        scales=None if scales is None else parse_scales(scales),
        limit=limit,
        data=data,
        split=split,
        images=images,
        cards=tuple(cards or ()),
        threads=threads,
        device=device,
        classes=None if classes is None else str(classes),
    )
    report = find(choice, told=note)
    for line in report["notes"]:
        note(f"note: {line}")
    for line in report["warnings"]:
        note(f"warning: {line}")
    if plot is not None:
        from featherseg.files import atomic_write
        from featherseg.report.choice_plot import choice_plot

        note(f"plot: {atomic_write(plot, choice_plot(report))}")
    if card is not None:
        _write_card(card, report, [PROGRAM, *context.obj])
    if json:
        print_json(report)
    else:
        _show(report, every)
    if report["recommended"] is None:
        note(_why_none(report))
        raise typer.Exit(NOT_SO)


def _write_card(file: Path, report: dict[str, Any], command: list[str]) -> None:
    from featherseg.cards import card, write_card

    apart = ("environment", "load_average", "warnings", "notes", "device")
    size = "x".join(map(str, report["size"]))
    made = card(
        "choice",
        protocol=f"choice/{size}/{report['threads']} threads/{report['rule']} of uint8 image to uint8 label map",
        figures={key: value for key, value in report.items() if key not in apart},
        command=command,
        seeds=[0],
        data_fingerprint=None,
        notes="; ".join([*report["notes"], *report["warnings"]]) or None,
        environment=report["environment"],
        load_average=report["load_average"],
        device=report["device"],
    )
    note(f"card: {write_card(file, made)}")


def _show(report: dict[str, Any], every: bool) -> None:
    rows, front = report["candidates"], report["front"]
    size = "x".join(map(str, report["size"]))
    head = ["candidate", "input", "mIoU, %", "from", "p50, ms", "p90, ms", "fps at p90", "runs", ""]

    def line(name: str) -> list[Any]:
        row = rows[name]
        said = "take this" if name == report["recommended"] else ""
        if not said and row["dominated_by"]:
            said = f"behind {row['dominated_by']}"
        seen = "x".join(map(str, row["input"]))
        times = [row["p50_ms"], row["p90_ms"], 1000 / row["p90_ms"], row["count"]]
        judged = ", ".join(filter(None, (row["miou_from"], row["miou_precision"])))
        return [name, seen, row["miou"], judged or None, *times, said]

    if front:
        typer.echo(table(head, [line(name) for name in front]))
    rest = sorted((name for name in rows if name not in front), key=lambda name: rows[name]["p90_ms"])
    if rest and (every or not front):
        typer.echo(("\nnot on the front\n" if front else "") + table(head, [line(name) for name in rest]))
    typer.echo(
        f"\n{size}, {report['threads']} threads, {report['environment']['cpu']}; {len(rows)} candidates in "
        f"{report['seconds']:.0f} s; accuracies: {report['protocol'] or 'none known'}"
    )
    taken = report["recommended"]
    if taken is not None:
        row = rows[taken]
        within = f"nine frames of ten within {row['p90_ms']:.2f} ms"
        if report["provisional"]:
            runs = "once" if row["count"] == 1 else f"{row['count']} times"
            within = f"timed {runs} alone, the slowest {row['p99_ms']:.2f} ms: too rarely to rely on, raise --limit"
        typer.echo(
            f"\nTake {taken}: {row['miou']:.2f} % mIoU, {within} "
            f"({report['fps']:g} fps are {report['wanted_ms']:.2f} ms)."
        )
        typer.echo("\n".join(f"  {command}" for command in row["commands"]))


def _why_none(report: dict[str, Any]) -> str:
    rows, nearest = report["candidates"], report["nearest"]
    if nearest is None:
        return (
            "nothing can be recommended: no candidate's accuracy is known. Judge them with --data PATH --split val, or "
            "name their cards with --cards."
        )
    row = rows[nearest]
    lines = [
        f"no candidate of known accuracy reaches {report['fps']:g} fps here ({report['wanted_ms']:.2f} ms). The "
        f"nearest is {nearest}: p90 {row['p90_ms']:.2f} ms, {row['miou']:.2f} % mIoU.",
        *(f"  {command}" for command in row["commands"]),
        "An int8 file of it may be faster: `featherseg quantize` writes one, and `featherseg choose` takes it by name.",
    ]
    return "\n".join(lines)
