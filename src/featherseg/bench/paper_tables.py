"""The papers' tables of cost, beside what our networks cost: ``featherseg complexity --paper fassd_net``.

Design choices:
- a paper is a module of ``featherseg.bench.papers`` with a function ``rows``; its printed figures are typed there,
  once, each under the table it was printed in; ours are counted on the spot by :mod:`featherseg.bench.complexity`;
- accuracy and frames per second stand in ``paper`` only: ours are measurements and live in result cards.
"""

from importlib import import_module
from typing import Any

from featherseg.errors import FeathersegError, nearest

PAPERS = ("fassd_net", "drbanet", "shufflenet_v2_dpc", "fasterseg", "pyramid_mobilenet")


def paper_table(paper: str) -> list[dict[str, Any]]:
    """The tables of one paper, each row beside our count: ``{"row", "model", "table", "paper", "ours"}``.

    A row of costs has ``gflops`` (10^9, in the paper's own way of counting), ``parameters`` and, ours alone,
    ``conv_macs``; where the paper prints them, ``megabytes`` and, the paper's alone, accuracy and speed. A row of an
    architecture table has ``output_size`` as ``[H, W, C]``, None where the paper's figure is not known. The number of
    classes and the image's size are the paper's; a row names its ``size`` ([H, W], None where there is no image) and
    its ``classes`` where the paper has several. Of a paper that prints no network's cost, ours is ``mmacs`` (10^6).

    Raises:
        FeathersegError: no table of a paper of that name is known.
    """
    if paper not in PAPERS:
        raise FeathersegError(
            f"no tables of a paper called {paper!r} are known{nearest(paper, PAPERS)}. Known: {', '.join(PAPERS)}."
        )
    return import_module(f"featherseg.bench.papers.{paper}").rows()
