"""The command line: ``featherseg VERB ...``.

Choices worth knowing:

- Every verb is one module of this folder that imports what it needs when it runs, so that ``--help`` is quick.
- Exit codes: 0; 1 the thing checked is not so, or a training diverged; 2 wrong use; 130 and 143 stopped by a signal.
- A person's mistake is one line on stderr. Any other exception is a defect of featherseg and keeps its traceback.
"""

import os
import sys
from collections.abc import Sequence

import typer

from featherseg.cli.balance import balance
from featherseg.cli.bench import bench
from featherseg.cli.check import check
from featherseg.cli.choose import choose
from featherseg.cli.common import PROGRAM, WRONG_USE
from featherseg.cli.compare import compare
from featherseg.cli.complexity import complexity
from featherseg.cli.distill import distill
from featherseg.cli.eval import evaluate
from featherseg.cli.export import export
from featherseg.cli.import_weights import import_weights
from featherseg.cli.models import models
from featherseg.cli.predict import predict
from featherseg.cli.quantize import quantize
from featherseg.cli.quickstart import quickstart
from featherseg.cli.report import report
from featherseg.cli.search import search
from featherseg.cli.train import train
from featherseg.errors import FeathersegError

INTERRUPTED = 130
# typer carries its own copy of click or uses the installed one, depending on its version.
_USAGE_ERROR: type[Exception] = next(
    base
    for base in typer.BadParameter.__mro__
    if base.__name__ == "ClickException"  # type: ignore[assignment]
)

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for _name, _command in (
    ("quickstart", quickstart),
    ("models", models),
    ("complexity", complexity),
    ("check", check),
    ("train", train),
    ("search", search),
    ("distill", distill),
    ("eval", evaluate),
    ("balance", balance),
    ("compare", compare),
    ("predict", predict),
    ("export", export),
    ("quantize", quantize),
    ("bench", bench),
    ("choose", choose),
    ("import", import_weights),
    ("report", report),
):
    app.command(_name)(_command)


def _show_version(asked: bool) -> None:
    if asked:
        from featherseg import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """From a folder of labelled images to a measured, deployed real-time segmentation network.

    \b
    Begin with:  featherseg quickstart
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``arguments`` default to those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=given, prog_name=PROGRAM, standalone_mode=False, obj=given)
    except FeathersegError as error:
        return _complain(str(error))
    except _USAGE_ERROR as error:
        message = error.format_message()  # type: ignore[attr-defined]
        return _complain(message) if message else WRONG_USE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output (`head`, say) has gone; Python must not complain of it again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _complain(message: str) -> int:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return WRONG_USE
