"""Maps inside networks, by name: what a distillation compares besides logits.

A network names its paths in ``distillation_paths``: ``{"1/8": "ffm", "1/4": "heads4.input"}`` says that the map called
1/8 is what the module ``ffm`` gives, and the one called 1/4 what enters ``heads4``. Where a network names none, or
another map is wanted, the module itself may be named, in the same way.

Design choices:
- maps are caught by hooks while the network runs as it always does, so that nothing need be known of its ``forward``,
  and gradients of several processes are exchanged as ever;
- without pairs of their own, a student's finest path looks to the teacher's next finer one, where there is one, and the
  others to those of the same name: Yang et al. 2021, Eq. 6, for a student and its tutor.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from featherseg.errors import FeathersegError, nearest
from featherseg.recipes.distillation_schema import PathPair

INPUT = ".input"
FINEST_WEIGHT, OTHER_WEIGHT = 1.0, 0.8
"""Eq. 6: "to weigh a little more on the first term"."""


def path_names(network: nn.Module) -> dict[str, str]:
    """The network's own names of its paths, finest first."""
    named = dict(getattr(network, "distillation_paths", {}))
    return dict(sorted(named.items(), key=lambda item: -Fraction(item[0]) if _is_scale(item[0]) else Fraction(0)))


def _is_scale(name: str) -> bool:
    top, _, bottom = name.partition("/")
    return top.isdigit() and bottom.isdigit() and int(bottom) > 0


def find_module(network: nn.Module, name: str, who: str) -> tuple[nn.Module, bool]:
    """The module whose output is the map called ``name``, or whose input, where the second value is true.

    Raises:
        FeathersegError: there is no such path and no such module; ``who`` says of which network.
    """
    named = path_names(network)
    path = named.get(name, name)
    is_input = path.endswith(INPUT)
    modules = dict(network.named_modules())
    del modules[""]
    module = modules.get(path.removesuffix(INPUT))
    if module is not None:
        return module, is_input
    kind = type(network).__name__
    own = f"It names {', '.join(named)}" if named else "It names no path"
    tutor = ""
    if name == "1/4" and "1/8" in named:
        tutor = " A tutor with the path at 1/4 is fasterseg_tutor; without one, compare 1/8."
    raise FeathersegError(
        f"{who} ({kind}) has no path {name!r}{nearest(name, [*named, *modules])}. {own}; any of its modules may be "
        f"named besides, for what it gives, or with {INPUT} behind it for what enters it.{tutor}"
    )


@contextmanager
def watched(network: nn.Module, names: Sequence[str], who: str) -> Iterator[dict[str, Tensor]]:
    """Give a dictionary that is filled, by name, with ``[B, C, h, w]`` when ``network`` runs inside.

    Raises:
        FeathersegError: a name is unknown, or at the end, a module was not run or gives no such tensor.
    """
    found: dict[str, Any] = {}
    handles = []
    for name in names:
        module, is_input = find_module(network, name, who)
        if is_input:
            handles.append(module.register_forward_pre_hook(_keep_input(found, name)))
        else:
            handles.append(module.register_forward_hook(_keep_output(found, name)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    for name in names:
        value = found.get(name)
        if not isinstance(value, Tensor) or value.dim() != 4:
            what = "is not run" if name not in found else f"gives a {type(value).__name__}"
            raise FeathersegError(
                f"{who} ({type(network).__name__}): the module {name!r} {what}, where a map [B, C, h, w] is wanted. "
                "Name the module around it, or another."
            )


def _keep_input(found: dict[str, Any], name: str) -> Any:
    def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
        found[name] = given[0]

    return hook


def _keep_output(found: dict[str, Any], name: str) -> Any:
    def hook(_: nn.Module, __: tuple[Any, ...], result: Any) -> None:
        found[name] = result

    return hook


def default_pairs(student: nn.Module, teacher: nn.Module) -> tuple[PathPair, ...]:
    """The pairs that the networks' own names suggest, see the module.

    Raises:
        FeathersegError: they have none in common.
    """
    ours, theirs = list(path_names(student)), list(path_names(teacher))
    pairs = []
    for number, name in enumerate(ours):
        finer = str(Fraction(name) * 2) if _is_scale(name) else name
        partner = finer if number == 0 and finer in theirs else name
        if partner in theirs:
            weight = OTHER_WEIGHT if pairs else FINEST_WEIGHT
            pairs.append(PathPair(student=name, teacher=partner, weight=weight))
    if not pairs:
        raise FeathersegError(
            f"the student ({type(student).__name__}: {', '.join(ours) or 'no paths'}) and the teacher "
            f"({type(teacher).__name__}: {', '.join(theirs) or 'no paths'}) name no paths that could be compared. Give "
            "distillation.affinity.pairs=[{student: MODULE, teacher: MODULE}]."
        )
    return tuple(pairs)


def resolve_pairs(student: nn.Module, teacher: nn.Module, given: Sequence[PathPair]) -> tuple[PathPair, ...]:
    """``given``, or :func:`default_pairs` where there are none; all their maps exist.

    Raises:
        FeathersegError: one does not.
    """
    pairs = tuple(given) or default_pairs(student, teacher)
    for pair in pairs:
        find_module(student, pair.student, "the student")
        find_module(teacher, pair.teacher, "the teacher")
    return pairs
