"""``featherseg bench``: how fast networks label images here, end to end and by stage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from featherseg.cli.common import (
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
    progress_bar,
    table,
)
from featherseg.errors import FeathersegError

if TYPE_CHECKING:
    from featherseg.bench.entrants import Request

LAYERS_SHOWN = 12


def bench(
    context: typer.Context,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL_OR_WEIGHTS_OR_FILE",
            help="Networks by name (with fresh weights), weights, or exported files; several are timed together.",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Image, height x width; a file's own size, else 1024x2048, if not given.")
    ] = None,
    runtime: Runtimes = None,
    precision: Precisions = None,
    threads: Annotated[int | None, typer.Option(help="Of every contestant; PyTorch's number, if not given.")] = None,
    device: Device = "cpu",
    against: Annotated[
        str | None,
        typer.Option(help="torch: measure plain PyTorch too (contiguous and channels_last), and compare the labels."),
    ] = None,
    paper: Annotated[str | None, typer.Option(help="A paper's frames a second beside ours: fassd_net.")] = None,
    roofline: Annotated[
        bool, typer.Option("--roofline", help="This machine's peaks, and how close networks and their layers come.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="With --roofline: draw it into this PNG file; of several networks, one each.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Time every contestant so often, at most.")] = 100,
    seconds: Annotated[float, typer.Option(help="End the rounds after so long, once there are nine.")] = 20.0,
    limit: Annotated[
        float | None, typer.Option(help="Hard limit for warming up and rounds, in seconds, for heavy sizes.")
    ] = None,
    memory: Annotated[bool, typer.Option(help="Measure peak memory, in a new process for each contestant.")] = True,
    classes: ClassNames = None,
    card: Card = None,
    json: Json = False,
) -> None:
    """Measure how fast networks label images on this machine.

    From uint8 image to uint8 label map, and by stage, in interleaved rounds beside a reference network that is the same
    on every machine: the ratio to it is what two machines can compare. --against torch adds plain PyTorch (float32,
    logits enlarged to full size, arg-max), contiguous and channels_last, and the share of equal labels.

    \b
    Example:
      featherseg bench fassd_net_l2.camvid --size 360x480 --against torch
      featherseg bench mine.xml mine.onnx --threads 2 --card speed.json
      featherseg bench fassd_net_l2 --runtime openvino --roofline --plot roofline.png
      featherseg bench --paper fassd_net
    """
    if bool(given) == (paper is not None):
        raise FeathersegError("name networks, weights or files, or one --paper: featherseg bench fassd_net_l2.")
    _check(against, plot, roofline, rounds, seconds, limit, threads)
    from featherseg.bench.entrants import Request
    from featherseg.bench.paper_speed import paper_speed
    from featherseg.bench.speed import bench as measure
    from featherseg.deploy.session import Precision

    precisions = listed(precision)
    for one in precisions or ():
        check_running(one, None, get_args(Precision))
    request = Request(
        tuple(given or ()),
        size=None if size is None else parse_size(size),
        runtimes=listed(runtime),
        precisions=precisions,  # type: ignore[arg-type]
        threads=threads,
        device=device,
        against_torch=against is not None,
        rounds=rounds,
        seconds=seconds,
        limit=float("inf") if limit is None else limit,
        memory=memory,
        roofline=roofline,
        classes=None if classes is None else str(classes),
    )
    with progress_bar("rounds") as progress:
        if paper is None:
            report = measure(request, told=note, progress=progress)
        else:
            report = paper_speed(paper, request, told=note, progress=progress)
    for warning in report["warnings"]:
        note(f"warning: {warning}")
    if plot is not None:
        _draw(report["roofline"], plot)
    if card is not None:
        _write_card(card, report, request, [PROGRAM, *context.obj])
    if json:
        print_json(report)
    else:
        _show(report)


def _check(
    against: str | None,
    plot: Path | None,
    roofline: bool,
    rounds: int,
    seconds: float,
    limit: float | None,
    threads: int | None,
) -> None:
    if against not in (None, "torch"):
        raise FeathersegError(f"--against {against!r} is not known. There is torch.")
    if plot is not None and not roofline:
        raise FeathersegError("--plot draws the roofline. Give --roofline too.")
    if plot is not None and plot.suffix.lower() != ".png":
        raise FeathersegError(f"--plot {plot}: pictures are PNG files. Name it so.")
    if rounds < 1:
        raise FeathersegError(f"--rounds {rounds} measures nothing. Give at least 1, better 100.")
    for name, value in (("--seconds", seconds), ("--limit", limit)):
        if value is not None and not value > 0:
            raise FeathersegError(f"{name} {value} is no time. Give a number of seconds above 0.")
    if threads is not None and threads < 1:
        raise FeathersegError(f"--threads {threads} runs nothing. Give at least 1.")


def _draw(roofline: dict[str, Any], file: Path) -> None:
    from featherseg.files import atomic_write
    from featherseg.report.roofline_plot import roofline_plot

    networks = list(roofline["networks"])
    if not networks:
        note(f"{file} was not drawn: of these runtimes none tells the times of its layers")
    for number, name in enumerate(networks):
        to = file if number == 0 else file.with_stem(f"{file.stem}_{number + 1}")
        note(f"plot of {name}: {atomic_write(to, roofline_plot(roofline, name))}")


def _write_card(file: Path, report: dict[str, Any], request: "Request", command: list[str]) -> None:
    from featherseg.cards import card, write_card

    measured_apart = ("environment", "load_average", "warnings", "size", "paper")
    figures = {key: value for key, value in report.items() if key not in measured_apart}
    size = "x".join(map(str, report["size"]))
    named = report.get("paper")
    made = card(
        "speed",
        protocol=f"speed/{size}/{report['threads']} threads/uint8 image to uint8 label map",
        figures=figures,
        command=command,
        seeds=[0],
        data_fingerprint=None,
        paper=None if named is None else {row["row"]: row["paper"]["fps"] for row in report["rows"]},
        notes="; ".join(report["warnings"]) or None,
        environment=report["environment"],
        load_average=report["load_average"],
        device=request.device,
    )
    note(f"card: {write_card(file, made)}")


def _show(report: dict[str, Any]) -> None:
    size = "x".join(map(str, report["size"]))
    rows, against = [], any("equal_percent" in one for one in report["contestants"].values())
    head = ["ms", "p50", "p90", "p99", "preprocess", "network", "label map", "fps", "to reference"]
    if against:
        head += ["times as fast", "as channels_last", "equal, %"]
    with_memory = any(one.get("peak_mib") is not None for one in report["contestants"].values())
    head += ["peak MiB", "own MiB"] if with_memory else []
    with_energy = any(one.get("joules") is not None for one in report["contestants"].values())
    head += ["joules"] if with_energy else []
    for name, one in report["contestants"].items():
        stages = [one["stages"].get(stage, {}).get("p50_ms") for stage in ("preprocess", "network", "label map")]
        row = [name, one["p50_ms"], one["p90_ms"], one["p99_ms"], *stages, one["fps"], one["reference_ratio"]]
        if against:
            row += [one.get(key) for key in ("times_as_fast", "times_as_fast_as_channels_last", "equal_percent")]
        row += [one.get("peak_mib"), one.get("own_mib")] if with_memory else []
        row += [one.get("joules")] if with_energy else []
        rows.append(row)
    reference = report["reference"]
    blank = [None] * (len(head) - 9)
    own = "x".join(map(str, reference["size"]))
    shown = [reference["p50_ms"], reference["p90_ms"], reference["p99_ms"], None, reference["p50_ms"], None]
    rows.append([f"{reference['name']} at {own}", *shown, 1000 / reference["p50_ms"], 1.0, *blank])
    typer.echo(table(head, rows))
    load, machine = report["load_average"], report["environment"]
    typer.echo(
        f"\n{size}, {report['rounds']} rounds, {report['threads']} threads, {machine['cpu']}, "
        f"load {load['before']} before and {load['after']} after"
    )
    if "rows" in report:
        _show_paper(report)
    if "roofline" in report:
        _show_roofline(report["roofline"])


def _show_paper(report: dict[str, Any]) -> None:
    about, shown = report["paper"], ("fps", "fps_end_to_end", "runtime", "precision")
    rows = [[row["row"], row["paper"]["fps"], *(row["ours"][key] for key in shown)] for row in report["rows"]]
    typer.echo(f"\nframes a second; the paper's by {about['taken_on']}")
    typer.echo(table(["network", "paper", "here, network", "here, end to end", "runtime", "precision"], rows))


def _show_roofline(roofline: dict[str, Any]) -> None:
    peaks = roofline["peaks"]
    reached = ", ".join(f"{name} {'–' if peak is None else f'{peak:,.0f}'}" for name, peak in peaks["gflops"].items())
    typer.echo(f"\npeaks with {peaks['threads']} threads: {reached} GFLOP/s; copy {peaks['gigabytes']:.1f} GB/s")
    typer.echo(f"({peaks['how']})")
    head = ["layers", "count", "ms", "bound, ms", "of the roof, %", "limit", "GFLOP/s"]
    for name, network in roofline["networks"].items():
        whole = network["network"]
        rows: list[list[Any]] = [["the network", len(network["layers"]), whole["ms"], *_place(whole)]]
        rows += [[f"all {kind['kind']}", kind["count"], kind["ms"], *_place(kind)] for kind in network["kinds"]]
        slowest = sorted(network["layers"], key=lambda layer: -layer["milliseconds"])[:LAYERS_SHOWN]
        for layer in slowest:
            rows.append([f"  {layer['name']} ({layer['kind']})", 1, layer["milliseconds"], *_place(layer)])
        typer.echo(f"\n{name}: by kind, and the {len(slowest)} slowest layers")
        typer.echo(table(head, rows))


def _place(one: dict[str, Any]) -> list[Any]:
    share = None if one["share"] is None else 100 * one["share"]
    return [one["bound_ms"], share, one["limit"], one["gflops"]]
