"""Carrying weights over: exactly the part that was asked for, or nothing."""

import pytest
import torch
from torch import nn

from featherseg.errors import FeathersegError
from featherseg.models.carry import carry_over, logits_prefixes
from featherseg.models.registry import create_model, list_models


class Net(nn.Module):
    """A backbone, a head and one layer of logits."""

    logits_prefixes = ("logits.",)

    def __init__(self, classes: int, width: int = 3) -> None:
        super().__init__()
        self.base = nn.ModuleList([nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)])
        self.head = nn.Conv2d(width, 4, 1)
        self.logits = nn.Conv2d(4, classes, 1)


class Other(nn.Module):
    """Another network on the same backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.ModuleList([nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)])
        self.fc = nn.Linear(3, 7)


def changed(network: nn.Module, part: str, source: nn.Module) -> set[str]:
    """The first names of the tensors that ``carry_over`` took from ``source``; checks that the rest stayed."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = {name: tensor + 1 for name, tensor in source.state_dict().items()}
    carry_over(network, given, part, where="w")  # type: ignore[arg-type]
    taken = set()
    for name, tensor in network.state_dict().items():
        if torch.equal(tensor, before[name]):
            continue
        assert torch.equal(tensor, given[name])
        taken.add(name)
    return taken


def names(network: nn.Module, *starts: str) -> set[str]:
    return {name for name in network.state_dict() if name.startswith(starts)}


def test_everything_is_every_tensor() -> None:
    network = Net(5)
    assert changed(network, "everything", Net(5)) == names(network, "")


@pytest.mark.parametrize("classes", [5, 8], ids=["as many classes", "other classes"])
def test_all_but_logits_leaves_them_fresh_even_where_they_would_fit(classes: int) -> None:
    network = Net(5)
    assert changed(network, "all_but_logits", Net(classes)) == names(network, "base.", "head.")


def test_the_backbone_comes_from_any_network_that_has_it() -> None:
    network = Net(5)
    assert changed(network, "backbone", Other()) == names(network, "base.")


@pytest.mark.parametrize(
    ("part", "source", "message"),
    [
        ("everything", Net(8), r"w: cannot carry everything over to this Net.*2 of another shape.*all_but_logits"),
        ("all_but_logits", Other(), r"2 missing \(head\.weight, head\.bias\); 2 left over \(fc\..*carry the backbone"),
        ("all_but_logits", Net(5, width=2), r"of another shape \(base\.0\.weight"),
        ("backbone", Net(5, width=2), r"w: cannot carry the backbone over.*of another shape"),
        ("backbone", nn.Linear(2, 2), r"w: cannot carry the backbone over"),
        ("everything", nn.ReLU(), r"cannot carry everything"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_network_left_alone(part: str, source: nn.Module, message: str) -> None:
    network = Net(5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(FeathersegError, match=message):
        carry_over(network, source.state_dict(), part, where="w")  # type: ignore[arg-type]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_network_that_does_not_name_its_logits_cannot_leave_them_out() -> None:
    with pytest.raises(FeathersegError, match="does not say which of its layers give the logits"):
        carry_over(Other(), Other().state_dict(), "all_but_logits", where="w")


def test_a_network_without_a_backbone_carries_none() -> None:
    with pytest.raises(FeathersegError, match="w: cannot carry the backbone over"):
        carry_over(nn.Linear(2, 2), Other().state_dict(), "backbone", where="w")


def test_the_report_says_what_came_over_what_starts_fresh_and_what_was_left() -> None:
    network = Net(5)
    report = carry_over(network, Other().state_dict(), "backbone", where="w")
    assert set(report.carried) == names(network, "base.")
    assert set(report.fresh) == names(network, "head.", "logits.")
    assert report.left == ("fc.weight", "fc.bias")
    # The batch counter is no number of the network's.
    assert (report.numbers_carried, report.numbers) == (3 * 3 * 9 + 3 + 4 * 3, 96 + (3 * 4 + 4) + (4 * 5 + 5))
    told = "; ".join(report.lines())
    assert "7 tensors carried over, 70.07 % of 137 numbers" in told
    assert "4 start fresh: head.weight, head.bias, logits.weight, logits.bias" in told
    assert "2 of the weights not used: fc.weight, fc.bias" in told


@pytest.mark.parametrize("name", [*list_models(), *list_models("classification")])
def test_every_networks_logits_are_the_tensors_that_have_the_classes(name: str) -> None:
    """Of two numbers of classes, the tensors that differ in shape are those below the network's own prefixes."""
    with torch.device("meta"):
        few, many = create_model(name, 5), create_model(name, 7)
    other = many.state_dict()
    differ = {key for key, tensor in few.state_dict().items() if tensor.shape != other[key].shape}
    below = {key for key in other if key.startswith(logits_prefixes(few))}
    assert differ
    assert differ <= below
    # Batch norm or biases may lie beside them, a whole head may not.
    assert {key.rsplit(".", 1)[0] for key in below} == {key.rsplit(".", 1)[0] for key in differ}


@pytest.mark.parametrize("name", list_models())
def test_carrying_is_tried_on_the_meta_device_before_any_weights_are_there(name: str) -> None:
    with torch.device("meta"):
        source, network = create_model(name, 5), create_model(name, 7)
    assert carry_over(network, source.state_dict(), "all_but_logits", where=name).fresh
    with pytest.raises(FeathersegError, match="cannot carry everything"):
        carry_over(network, source.state_dict(), "everything", where=name)
