"""``featherseg search``: from a recipe and a budget to an architecture, its latency, and the recipe that trains it.

Choices worth knowing:

- Before the first step the table is complete and the fastest network of the space is known: a budget that cannot be met
  is refused at once.
- Tables that were measured here are kept in OUTPUT/latency, one file a device, runtime and precision, and used again
  while machine, versions and threads are the same; the run keeps a copy, with which it is resumed.
"""

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherseg.cli.common import (
    NOT_SO,
    PROGRAM,
    Json,
    Overrides,
    clock,
    note,
    note_from_handler,
    print_json,
    progress_bar,
)
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.recipes.shipped import shipped_searches

if TYPE_CHECKING:
    from featherseg.models.fasterseg_architecture import Architecture
    from featherseg.recipes.search_schema import SearchRecipe
    from featherseg.search.measured import LatencyTable
    from featherseg.search.runtimes import Runtime

RECIPE_FILE, TABLE_FILE, PICTURE_FILE = "recipe.yaml", "latency.json", "architecture.png"


def search(
    recipe: Annotated[str, typer.Argument(help=f"A YAML file, or one of: {', '.join(shipped_searches())}.")],
    overrides: Overrides = None,
    budget: Annotated[str | None, typer.Option(help="Milliseconds an image may take, as in 15ms.")] = None,
    device: Annotated[str | None, typer.Option(help="Where the network will run: cpu, cuda.")] = None,
    runtime: Annotated[str | None, typer.Option(help="What will run it: pytorch, openvino, onnx.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the search's checkpoint.")] = False,
    output: Annotated[Path, typer.Option(help="Where the search's folder (by its name) is made.")] = Path("runs"),
    json: Json = False,
) -> None:
    """Search a network for your data that keeps a latency budget on your device.

    Measures every operator there once, searches, and writes OUTPUT/NAME with the architecture as JSON and picture, its
    predicted and measured latency, and the recipe that trains it. Exit code 1: what was found measures slower than the
    budget. Ctrl-C finishes the step, saves, and leaves with exit code 130.

    \b
    Example:
      featherseg search streets_small_search --budget 15ms
      featherseg search fasterseg_search data.source=path/to/cityscapes --budget 6.2ms --device cuda
      featherseg search runs/streets_small_search/recipe.yaml --resume
    """
    from featherseg.recipes.search_reading import read_search

    given = list(overrides or ())
    if budget is not None:
        given += [f"latency.budget={parse_budget(budget):g}", "latency.keep_fps=null"]
    given += [f"latency.{key}={value}" for key, value in (("device", device), ("runtime", runtime)) if value]
    parsed = read_search(recipe, given)
    raise typer.Exit(run(parsed, output / parsed.name, output / "latency", resume=resume, json=json))


def parse_budget(text: str) -> float:
    """``"15ms"`` as 15.0; seconds and a plain number of milliseconds are taken too.

    >>> parse_budget("15ms"), parse_budget("0.02s"), parse_budget("6.2")
    (15.0, 20.0, 6.2)
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s)?", text.strip())
    if not found or float(found[1]) <= 0:
        raise FeathersegError(f"--budget {text!r} is no budget. Write milliseconds, for example 15ms.")
    return float(found[1]) * (1000.0 if found[2] == "s" else 1.0)


def run(recipe: "SearchRecipe", folder: Path, tables: Path, *, resume: bool, json: bool) -> int:
    """Search by ``recipe`` in ``folder``; tables are kept in ``tables``. Returns the exit code."""
    from featherseg.data.dataset import shortfall_of
    from featherseg.models.fasterseg import FasterSeg
    from featherseg.models.fasterseg_published import PUBLISHED
    from featherseg.report.architecture_picture import architecture_picture
    from featherseg.search.budget import Pricing, check_budget
    from featherseg.search.found import training_recipe, write_found
    from featherseg.search.latency import supernet_prices
    from featherseg.search.loop import run_search
    from featherseg.search.measured import needed_shapes, network_milliseconds
    from featherseg.search.outcome import conclude
    from featherseg.search.runtimes import open_runtime
    from featherseg.search.steps import Learner, SearchDiverged, mispriced
    from featherseg.search.task import SearchTask
    from featherseg.training.checkpoint import check_start
    from featherseg.training.distributed import training_device

    check_start(folder, resume)
    training_recipe(recipe, PUBLISHED["fasterseg_student"])  # what it refuses is refused now, not after the search
    task = SearchTask(recipe)
    note(f"{recipe.name}: a search on {len(task.train):,} images of {recipe.data.source}, in {folder}")
    for shortfall in filter(None, map(shortfall_of, (task.train, task.val))):
        note(f"note: {shortfall.told}")
    latency, official = recipe.latency, recipe.behaviour == "official"
    runner = open_runtime(latency.runtime, device=latency.device, precision=latency.precision, threads=latency.threads)
    role = task.space.roles[task.searched]
    kept = tables / f"{latency.runtime}-{latency.device}-{latency.precision}.json"
    table = _table(recipe, folder, kept, runner, resume=resume)
    foreign = _is_foreign(table, runner)
    if table.runtime is not None:
        shapes = needed_shapes(task.space, role, latency.size, task.classes, skips=official)
        with progress_bar("measuring") as advance:
            table.measure(shapes, lambda done, total: advance(done, total, "operators"))
        if table.measured:
            table.save(kept)
            note(f"latency: {table.measured} operators measured, kept in {kept}")
    price = mispriced(table.price) if official else table.price
    pricing = Pricing(task.space, role, price, latency.size, task.classes)
    if latency.budget is not None:

        def measured(architecture: "Architecture") -> float:
            return network_milliseconds(FasterSeg(architecture, task.classes), latency.size, runner)

        fastest = check_budget(pricing, latency.budget, None if foreign or resume else measured)
        note(f"budget: {latency.budget:g} ms; the fastest network of this space takes {fastest.milliseconds:.3g} ms")
    if not resume:
        atomic_write(folder / RECIPE_FILE, recipe_text(recipe))
        table.save(folder / TABLE_FILE)
    device = training_device(recipe.train.device)
    task.network.to(device)
    if recipe.train.channels_last:
        import torch

        task.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if task.teacher is not None:
        task.teacher.to(device)
    prices = supernet_prices(
        task.space, role, price, size=latency.size, num_classes=task.classes, behaviour=recipe.behaviour
    )
    learner = Learner(task, prices, latency.weight)
    try:
        with progress_bar("searching") as advance:

            def updated(entry: dict[str, Any]) -> None:
                words = f"{entry['phase']}  loss {entry['loss']:.3f}"
                words += f"  latency {entry['latency']:.3g} ms" if "latency" in entry else ""
                advance(entry["step"], entry["steps"], words)

            def decoded(entry: dict[str, Any]) -> None:
                if not sys.stderr.isatty():
                    taken = " and ".join(f"{one:.3g}" for one in entry["decoded_ms"])
                    note(f"step {entry['step']}: decoded networks take {taken} ms")

            result = run_search(
                task,
                learner,
                pricing,
                folder,
                resume=resume,
                progress=updated,
                decoded=decoded,
                stopping_soon=lambda: note_from_handler("stopping after this step; saving ..."),
            )
    except SearchDiverged as error:
        note(f"{PROGRAM}: error: {error}")
        return NOT_SO
    if result.stopped_by is not None:
        again = f"{PROGRAM} search {shlex.quote(str(folder / RECIPE_FILE))} --resume"
        again += "" if folder.parent == Path("runs") else f" --output {shlex.quote(str(folder.parent))}"
        note(f"stopped after step {result.step} of {result.steps}; everything is saved. Go on with: {again}")
        return 128 + result.stopped_by
    with progress_bar("judging") as advance:
        outcome = conclude(task, pricing, None if foreign else runner, advance)
    figures = outcome.to_dict() | {
        "budget_ms": latency.budget,
        "size": list(latency.size),
        "measured_on": table.measured_on,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "data_fingerprint": task.train.fingerprint(),
    }
    written = write_found(folder, recipe, outcome, figures)
    title = f"{recipe.name}: {figures['predicted_ms']:.3g} ms predicted"
    title += "" if outcome.measured is None else f", {outcome.measured:.3g} ms measured"
    atomic_write(folder / PICTURE_FILE, architecture_picture(outcome.architecture.to_dict(), title))
    if json:
        print_json(figures | {"architecture": outcome.architecture.to_dict(), "training": str(written["training"])})
    else:
        _tell(figures, folder, written["training"], result.seconds)
    too_slow = outcome.measured is not None and latency.budget is not None and outcome.measured > latency.budget
    return NOT_SO if too_slow else 0


def _table(recipe: "SearchRecipe", folder: Path, kept: Path, runner: "Runtime", *, resume: bool) -> "LatencyTable":
    """The table of the search: its own on resumption, the one it names, the kept one of this machine, or a new one."""
    from featherseg.search.measured import differences, fingerprint, given_table, open_table, read_table

    latency = recipe.latency
    if resume and (folder / TABLE_FILE).is_file():
        table = read_table(folder / TABLE_FILE)
        elsewhere = differences(table.measured_on, fingerprint(runner))
        if elsewhere:
            note(
                f"note: the latencies of this search were measured elsewhere ({'; '.join(elsewhere)}): it goes on with "
                "them, and the network that it finds is not measured"
            )
        return table
    if latency.table is not None:
        return given_table(latency.table, runner, foreign=latency.foreign)
    table, why = open_table(kept, runner, seconds=latency.seconds)
    if why:
        note(f"latency: {kept} was not measured here and is measured anew: {'; '.join(why)}")
    return table


def _is_foreign(table: "LatencyTable", runner: "Runtime") -> bool:
    from featherseg.search.measured import differences, fingerprint

    return bool(differences(table.measured_on, fingerprint(runner)))


def recipe_text(recipe: "SearchRecipe") -> str:
    """The recipe as YAML, every field spelt out."""
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _tell(figures: dict[str, Any], folder: Path, training: Path, seconds: float) -> None:
    ends = " and ".join(f"1/{end}" for end in figures["ends"])
    typer.echo(f"found in {clock(seconds)}: branches to {ends}")
    typer.echo(f"predicted: {figures['predicted_ms']:.3g} ms")
    measured, budget = figures["measured_ms"], figures["budget_ms"]
    if measured is None:
        typer.echo("measured:  not here; the table is another machine's")
    else:
        kept = "" if budget is None else f" (budget {budget:g} ms{'' if measured <= budget else ', not kept'})"
        typer.echo(f"measured:  {measured:.3g} ms{kept}")
    typer.echo(f"architecture, picture and figures are in {folder}")
    typer.echo(f"train it:  {PROGRAM} train {shlex.quote(str(training))}")
