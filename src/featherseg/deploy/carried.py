"""What files of other runtimes keep of the metadata of the weights that they are made of.

Choices worth knowing:

- The accuracy of the weights goes along only where the file labels as they do: that is for the caller to say. It keeps
  its place, ``training`` / ``val`` with ``score`` (mIoU in percent), ``protocol`` and ``precision``, and nothing else
  of the training.
- That of weights that were balanced afterwards is dropped, since it is of those before.
"""

from collections.abc import Mapping
from typing import Any

KEPT = (
    "format",
    "task",
    "architecture",
    "arguments",
    "num_classes",
    "input_spec",
    "terms",
    "trained_on",
    "provenance",
    "untrained",
)


def carried(about: Mapping[str, Any], *, labels_alike: bool) -> dict[str, Any]:
    """What a file keeps of the metadata ``about`` of its weights; classes and colours are the caller's.

    Args:
        about: the metadata.
        labels_alike: whether the file labels as the weights do, so that their accuracy is its own.
    """
    kept = {name: about[name] for name in KEPT if name in about}
    judged = (about.get("training") or {}).get("val") or {}
    said = {name: judged[name] for name in ("score", "protocol", "precision") if judged.get(name) is not None}
    if labels_alike and {"score", "protocol"} <= said.keys() and not about.get("balance"):
        kept["training"] = {"val": said}
    return kept
