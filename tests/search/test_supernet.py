"""The supernet: the published counts, an independent sum over its paths, widths, and its two behaviours."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_cells import OPERATORS, ConvOperator, FactorizedReduce
from featherseg.search import slimmable, supernet
from featherseg.search.slimmable import MixedOperator
from featherseg.search.space import STUDENT, TEACHER, SearchSpace
from featherseg.search.supernet import OUTPUTS, Supernet

TINY = SearchSpace(layers=4, base=3, widths=(4, 8, 12))
IMAGES = torch.linspace(-1, 1, 2 * 3 * 64 * 64).sin().reshape(2, 3, 64, 64)


def tiny(behaviour="corrected", space=TINY) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space, 3, behaviour=behaviour)


NET = tiny()


@pytest.fixture(scope="module")
def full():
    with torch.device("meta"):
        return Supernet(SearchSpace(), behaviour="official", published_extras=True)


# Measured on the published code (VITA-Group/FasterSeg, 478b026), in millions.
def test_parameters_are_the_published_ones(full):
    assert sum(parameter.numel() for parameter in full.parameters()) / 1e6 == pytest.approx(252.06, abs=0.005)
    assert sum(parameter.numel() for parameter in full.cells.parameters()) / 1e6 == pytest.approx(248.7, abs=0.05)


# Likewise, in 10^9 multiply-accumulates of convolutions.
@pytest.mark.parametrize(
    ("role", "mode", "macs"), [(0, "max", 1288.0), (1, "max", 1224.2), (1, "min", 177.5)], ids=["teacher", "max", "min"]
)
def test_conv_macs_are_the_published_ones(full, role, mode, macs, monkeypatch):
    counted = []
    # PyTorch resizes on the meta device by a long chain of operators, which are not counted.
    for module in (slimmable, supernet):
        monkeypatch.setattr(module, "resize_map", lambda x, size, _: x.new_empty(*x.shape[:2], *size))

    def count(module, inputs, output):
        counted.append(output.numel() * inputs[0].shape[1] * module.kernel_size[0] ** 2)

    hooks = [one.register_forward_hook(count) for one in full.modules() if isinstance(one, torch.nn.Conv2d)]
    with torch.no_grad():
        full(torch.empty(1, 3, 1024, 2048, device="meta"), role, full.choose_widths(mode, role))
    for hook in hooks:
        hook.remove()
    assert sum(counted) / 1e9 == pytest.approx(macs, abs=0.05)


def test_architecture_parameters_have_the_published_shapes(full):
    def shapes(role):
        return [[tuple(one.shape) for one in group] for group in full.choices(role)]

    paths = [[(16, 5), (15, 5), (14, 5)], [(14, 2), (13, 2)]]
    assert shapes(0) == [*paths, [(15, 1), (15, 1), (14, 1)]]
    assert shapes(1) == [*paths, [(15, 5), (15, 5), (14, 5)]]


def test_five_outputs_at_an_eighth():
    outputs = tiny()(IMAGES)
    assert [tuple(one.shape) for one in outputs] == [(2, 3, 8, 8)] * len(OUTPUTS)


@pytest.mark.parametrize("size", [(1, 1), (65, 90), (96, 33)])
def test_any_size_is_taken(size):
    outputs = tiny().eval()(torch.zeros(1, 3, *size))
    assert {tuple(one.shape[-2:]) for one in outputs} == {tuple(-(-max(side, 64) // 8) for side in size)}


def reference_mixed(mixed: MixedOperator, x: torch.Tensor, weights: torch.Tensor, out: int) -> torch.Tensor:
    """The operators of a derived network on cut weights, batch norms in eval()."""
    total = torch.zeros(())
    for name, weight, ours in zip(OPERATORS, weights, mixed.operators, strict=True):
        if name == "skip" and mixed.stride == 1:
            y = torch.nn.functional.conv2d(x, ours.conv1.weight[:out, : x.shape[1]])
            total = total + weight * ours.norm.of(y)(y).relu()
            continue
        if name == "skip":
            theirs = FactorizedReduce(x.shape[1], out)
            theirs.conv1.weight.data = ours.conv1.weight.data[: out // 2, : x.shape[1]]
            theirs.conv2.weight.data = ours.conv2.weight.data[: out // 2, : x.shape[1]]
            theirs.bn.load_state_dict(ours.norm.norms[ours.norm.index[out]].state_dict())
        else:
            theirs = ConvOperator(x.shape[1], out, mixed.stride, twice="2x" in name, zoomed="downup" in name)
            theirs.conv1.weight.data = ours.conv1.weight.data[:out, : x.shape[1]]
            theirs.bn1.load_state_dict(ours.norm1.norms[ours.norm1.index[out]].state_dict())
            if ours.conv2 is not None:
                theirs.conv2.weight.data = ours.conv2.weight.data[:out, :out]
                theirs.bn2.load_state_dict(ours.norm2.norms[ours.norm2.index[out]].state_dict())
        total = total + weight * theirs.eval()(x)
    return total


def reference_forward(net: Supernet, images: torch.Tensor, role: int, widths, behaviour: str) -> list[torch.Tensor]:
    """The last maps by recursion from the end: what a cell takes is asked for when it is needed."""
    space, own = net.space, net.space.roles[role]
    chances = net.choices(role).probabilities()

    def channels(scale, row):
        return space.channels(scale, space.widths[widths.indices[scale][row]])

    def inputs(layer, scale):
        if layer == 0:
            return [(1.0, net.stems[role](images))]
        above = [(layer - 1, scale - 1, True)] if scale else []
        level = [(layer - 1, scale, False)] if layer > scale else []
        shares = [1.0]
        if above and level:
            shares = chances.beta[scale - 1][layer - scale - 1]
        return [(share, output(*one)) for share, one in zip(shares, above + level, strict=True)]

    def output(layer, scale, halved):
        cell = net.cells[f"{layer}-{scale}"]
        if halved:
            mixed, out = cell.down, channels(scale + 1, layer - scale)
        elif layer == space.layers - 1:
            mixed, out = cell.keep, space.channels(scale, own.head)
        else:
            mixed, out = cell.keep, channels(scale, layer - scale + 1 if scale else layer)
        alpha = chances.alpha[scale][layer - scale]
        given = inputs(layer, scale)
        if behaviour == "corrected":
            return reference_mixed(mixed, sum(share * x for share, x in given), alpha, out)
        return sum(share * reference_mixed(mixed, x, alpha, out) for share, x in given)

    return [output(space.layers - 1, scale, False) for scale in range(3)]


@pytest.mark.parametrize("behaviour", ["official", "corrected"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_last_maps_are_those_of_derived_operators_mixed_along_all_paths(behaviour, seed):
    net = tiny(behaviour).eval()
    with torch.no_grad():
        for number, parameter in enumerate(net.architecture_parameters()):
            parameter.copy_(torch.linspace(-2, 2, parameter.numel()).mul(number + 1).cos().reshape(parameter.shape))
        widths = net.choose_widths("random", 1, np.random.default_rng(seed))
        ours = net.last_maps(IMAGES, 1, widths)
        theirs = reference_forward(net, IMAGES, 1, widths, behaviour)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_corrected_cell_runs_once_where_the_official_runs_on_each_input():
    runs = {}
    for behaviour in ("official", "corrected"):
        net, count = tiny(behaviour), [0]
        cell = net.cells["2-1"].keep
        cell.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        net(IMAGES)
        runs[behaviour] = count[0]
    assert runs == {"official": 2, "corrected": 1}


@given(seed=st.integers(0, 10_000))
def test_sampled_widths_are_those_of_the_gumbel_draw_and_worth_one(seed):
    net = NET
    chosen = net.choose_widths("arch_ratio", 1, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    for scale, ratio in enumerate(net.choices(1).ratio):
        noisy = ratio.detach().double().numpy() + rng.gumbel(size=tuple(ratio.shape))
        assert chosen.indices[scale] == tuple(noisy.argmax(1))
        assert torch.equal(chosen.factors[scale], torch.ones(len(ratio)))


def test_sampled_widths_carry_the_gradient_of_the_loss_to_their_ratios():
    net = tiny()
    sum(
        one.square().mean() for one in net(IMAGES, 1, net.choose_widths("arch_ratio", 1, np.random.default_rng(0)))
    ).backward()
    assert all(bool((ratio.grad.abs().sum(1) > 0).all()) for ratio in net.choices(1).ratio)


def test_an_architecture_that_does_not_search_its_widths_has_full_ones():
    net = tiny()
    assert net.choose_widths("arch_ratio", 0) == net.choose_widths("max")


def test_widths_have_batch_norms_of_their_own():
    net = tiny().train()
    before = net.cells["1-0"].keep.operators[1].norm1.norms[0].running_mean.clone()
    net(IMAGES, 1, net.choose_widths("max"))
    assert torch.equal(net.cells["1-0"].keep.operators[1].norm1.norms[0].running_mean, before)
    net(IMAGES, 1, net.choose_widths("min"))
    assert not torch.equal(net.cells["1-0"].keep.operators[1].norm1.norms[0].running_mean, before)


def test_cells_meet_in_their_widths():
    """What one cell gives is what the next one takes, whichever way."""
    space = SearchSpace()
    for layer, following in pairwise(range(space.layers)):
        for scale in range(min(layer, 2) + 1):
            given = space.rows(layer, scale)
            assert given.kept == space.rows(following, scale).taken
            if given.down is not None:
                assert given.down == space.rows(following, scale + 1).taken


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 3}, "no path to 1/32"),
        ({"base": 4}, "a third of it"),
        ({"widths": (12, 4)}, "rising order"),
        ({"widths": ()}, "whole twelfths"),
        ({"roles": ()}, "without an architecture"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(values, message):
    with pytest.raises(FeathersegError, match=message):
        SearchSpace(**values)


def test_an_unknown_behaviour_is_refused_with_the_nearest():
    with pytest.raises(FeathersegError, match="did you mean 'official'"):
        Supernet(TINY, 3, behaviour="oficial")


def test_the_published_roles():
    assert SearchSpace().stem(TEACHER) == (48, 96, 96)
    assert SearchSpace().stem(STUDENT) == (32, 64, 64)
