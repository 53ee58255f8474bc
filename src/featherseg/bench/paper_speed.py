"""The papers' frames a second beside this machine's: ``featherseg bench --paper fassd_net``.

Choices worth knowing:

- The papers' figures are those of ``featherseg.bench.papers``, typed once. Ours are measured on the spot, with fresh
  weights, at the paper's image size and number of classes, beside the reference network.
- Both of ours are given: the network alone, up to its logits at its own stride, and end to end. The paper's hold what
  its own protocol held, as a rule the network and, where its code enlarges inside the network, the enlarging.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from featherseg.bench.contestants import NETWORK, Way, ways
from featherseg.bench.entrants import SIZE, Request
from featherseg.bench.speed import bench
from featherseg.errors import FeathersegError, nearest

PAPERS = ("fassd_net",)


def paper_networks(paper: str) -> list[dict[str, Any]]:
    """The networks of a paper whose frames a second it prints: ``{"row", "model", "fps", "miou"}``.

    Raises:
        FeathersegError: no paper of that name has a speed column that is known here.
    """
    return _module(paper).speeds()


def _module(paper: str) -> Any:
    if paper not in PAPERS:
        raise FeathersegError(
            f"no speed column of a paper called {paper!r} is known{nearest(paper, PAPERS)}. Known: {', '.join(PAPERS)}."
        )
    return import_module(f"featherseg.bench.papers.{paper}")


def paper_speed(
    paper: str,
    request: Request,
    *,
    told: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> dict[str, Any]:
    """The report of :func:`featherseg.bench.speed.bench` on a paper's networks, with ``paper`` and ``rows``.

    Args:
        paper: its name.
        request: without networks; where no runtime is named, one that is there is taken in its lowest precision:
            OpenVINO, or else ONNX Runtime, or else PyTorch.
        told, progress: as of ``bench``.

    Raises:
        FeathersegError: as of ``bench`` and :func:`paper_networks`.
    """
    networks = paper_networks(paper)
    if request.runtimes is None:
        way = _fastest(request)
        request = replace(request, runtimes=(way.runtime,), precisions=(way.precision,))
    given = tuple(network["model"] for network in networks)
    report = bench(replace(request, given=given, size=request.size or SIZE), told=told, progress=progress)
    rows = []
    for network in networks:
        for one in report["contestants"].values():
            if one["source"] != network["model"]:
                continue
            alone = one["stages"][NETWORK]["p50_ms"]
            ours = {
                "runtime": one["runtime"],
                "precision": one["precision"],
                "fps": round(1000 / alone, 2),
                "fps_end_to_end": one["fps"],
                "reference_ratio": one["reference_ratio"],
            }
            rows.append(
                {"row": network["row"], "model": network["model"]}
                | {"paper": {"fps": network["fps"], "miou": network["miou"]}, "ours": ours}
            )
    return report | {"paper": {"name": paper, "taken_on": _module(paper).SPEEDS_TAKEN_ON}, "rows": rows}


def _fastest(request: Request) -> Way:
    rank = {"openvino": 2, "onnx": 1}
    there = ways(None, request.precisions, request.device)
    return max(there, key=lambda way: (rank.get(way.runtime, 0), way.precision == "bf16"))
