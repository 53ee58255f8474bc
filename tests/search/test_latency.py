"""The latency of a supernet: exact means, and each mistake of the published sum beside its correction."""

import json
from itertools import product

import numpy as np
import pytest
import torch

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_cells import OPERATORS
from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.models.fasterseg_shapes import OperatorShape
from featherseg.search.latency import (
    architecture_latency,
    decoder_shapes,
    decoupled_latency,
    mean_latency,
    published_price,
    supernet_prices,
)
from featherseg.search.space import STUDENT, Choices, SearchSpace
from featherseg.search.supernet import ArchitectureParameters, Supernet

TINY = SearchSpace(layers=5, base=3, widths=(4, 8, 12))
SIZE = (64, 128)


def price(shape: OperatorShape) -> float:
    """Any price will do, if it depends on all that an operator is."""
    values = [shape.height, shape.in_channels, shape.out_channels, shape.stride, shape.kernel, len(shape.kind)]
    return 1 + sum(value * (0.01 + 0.003 * i) for i, value in enumerate(values)) % 1.7


def parameters(space=TINY, role=STUDENT, spread=1.5) -> Choices:
    """Architecture parameters that differ, ready for gradients."""
    made = ArchitectureParameters(space, role)
    with torch.no_grad():
        for number, one in enumerate(made.parameters()):
            one.copy_(torch.arange(one.numel()).mul(1.7 + number).cos().mul(spread).reshape(one.shape))
    return made.choices()


def paths(space: SearchSpace, end: int):
    """Every sequence of scales, one a layer, that starts at 1/8 and ends at ``end``."""
    for steps in product((0, 1), repeat=space.layers - 1):
        path = [0, *np.cumsum(steps).tolist()]
        if path[-1] == end and max(path) == end:
            yield path


def chance(path: list[int], beta) -> float:
    """Of a path, drawn from its end: whether each cell took the scale above or its own."""
    result = 1.0
    for layer in range(1, len(path)):
        scale = path[layer]
        if scale and layer > scale:
            result *= float(beta[scale - 1][layer - scale - 1][int(path[layer - 1] == scale)].detach())
    return result


def branch_mean(space: SearchSpace, role, chances: Choices, end: int) -> float:
    """The mean price of a branch's cells, path by path."""

    def width(place):
        if isinstance(place, str):
            return [(getattr(role, place), 1.0)]
        return list(zip(space.widths, chances.ratio[place[0]][place[1]].tolist(), strict=True))

    total = 0.0
    for path in paths(space, end):
        cost = 0.0
        for layer, scale in enumerate(path):
            to = path[layer + 1] if layer + 1 < space.layers else scale
            rows = space.rows(layer, scale)
            alpha = chances.alpha[scale][layer - scale].tolist()
            for kind, weight in zip(OPERATORS, alpha, strict=True):
                for (one, p), (other, q) in product(width(rows.taken), width(rows.down if to > scale else rows.kept)):
                    if kind == "skip" and to == scale:
                        continue
                    height, broad = SIZE[0] // (8 << scale), SIZE[1] // (8 << scale)
                    channels = space.channels(scale, one), space.channels(to, other)
                    cost += weight * p * q * price(OperatorShape(kind, height, broad, *channels, 1 + to - scale))
        total += chance(path, chances.beta) * cost
    return total


def test_the_corrected_latency_is_the_mean_over_all_paths_operators_and_widths():
    prices = supernet_prices(TINY, STUDENT, price, size=SIZE, num_classes=3)
    chances = parameters().probabilities()
    ends = [branch_mean(TINY, STUDENT, chances, end) for end in (0, 1, 2)]
    expected = prices.stem + prices.decoder + ends[2] + (ends[0] + ends[1]) / 2
    assert mean_latency(prices, chances).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("end", [0, 1, 2])
def test_the_chances_of_all_paths_to_an_end_add_up_to_one(end):
    assert sum(chance(path, parameters().probabilities().beta) for path in paths(TINY, end)) == pytest.approx(1)


def gradients(behaviour: str, at=price, choices=None) -> Choices:
    """The gradients of the regulariser, in the form of the parameters."""
    choices = choices or parameters()
    prices = supernet_prices(TINY, STUDENT, at, size=SIZE, num_classes=3, behaviour=behaviour)
    decoupled_latency(prices, choices, behaviour=behaviour, shares=(1, 1, 1)).backward()
    return Choices(*(tuple(one.grad for one in group) for group in choices))


def test_beta_1_has_no_gradient_in_the_published_latency():
    assert max(float(row.abs().max()) for row in gradients("official").beta[0]) < 1e-6


def test_every_row_of_both_betas_has_a_gradient_in_the_corrected_latency():
    assert all(float(row.abs().max()) > 1e-4 for beta in gradients("corrected").beta for row in beta)


def test_the_last_row_of_beta_2_stands_in_for_a_row_before_the_first():
    """At layer 2, which has no cell with two inputs at 1/32, the published sum takes the last row for that at 1/16."""
    made = {}
    for behaviour in ("official", "corrected"):
        choices = parameters()
        prices = supernet_prices(TINY, STUDENT, price, size=SIZE, num_classes=3, behaviour=behaviour)
        without = {key: torch.zeros_like(value) for key, value in prices.keep.items()}
        late = {key: value for key, value in prices.down.items() if key[0] < 2}
        prices.keep.update(without)
        prices.down.update({key: torch.zeros_like(value) for key, value in prices.down.items() if key not in late})
        # Only the first two layers cost anything: of beta 1, row 0 (layer 2 at 1/16) decides what is kept of it there.
        mean_latency(prices, choices.probabilities(), behaviour).backward()
        made[behaviour] = (float(choices.beta[1].grad[-1].abs().max()), float(choices.beta[0].grad[0].abs().max()))
    assert made["official"][0] > 1e-3
    assert made["official"][1] < 1e-6
    assert made["corrected"][1] > 1e-3


def test_the_published_price_of_conv_2x_downup_is_that_of_conv_2x():
    shape = OperatorShape("conv_2x_downup", 16, 32, 32, 64)
    table = {shape.published_key(official=False): 1.0, shape.published_key(official=True): 2.0}
    assert published_price(table, "official")(shape) == 2.0
    assert published_price(table, "corrected")(shape) == 1.0


def test_mispriced_the_zoomed_operator_is_pushed_like_the_one_it_is_priced_as():
    def named(shape):
        return float(len(shape.published_key(official=official)))

    columns = {}
    for official in (True, False):
        behaviour = "official" if official else "corrected"
        choices = Choices(*(tuple(one.detach().mul(0).requires_grad_() for one in group) for group in parameters()))
        alpha = gradients(behaviour, named, choices).alpha[0]
        columns[behaviour] = alpha[:, 3], alpha[:, 4]
    torch.testing.assert_close(*columns["official"])
    assert bool((columns["corrected"][0] != columns["corrected"][1]).all())


def test_the_published_sum_hands_down_what_the_cell_keeps_as_well():
    """Where cells at 1/8 that keep the scale are all that costs, a branch that leaves 1/8 at once is free."""

    def at_an_eighth(shape: OperatorShape) -> float:
        return float(shape.height == 8 and shape.stride == 1 and shape.kind in OPERATORS)

    chances = parameters().probabilities()
    own = torch.tensor([0.0, 1.0])
    chances = chances._replace(
        beta=tuple(own.expand(len(one), 2) for one in chances.beta),
        alpha=tuple(torch.tensor([0.0, 1, 0, 0, 0]).expand(len(one), 5) for one in chances.alpha),
    )
    costs = {}
    for behaviour in ("official", "corrected"):
        prices = supernet_prices(TINY, STUDENT, at_an_eighth, size=SIZE, num_classes=3, behaviour=behaviour)
        costs[behaviour] = mean_latency(prices, chances, behaviour).item()
    assert costs["corrected"] == pytest.approx(TINY.layers / 2)  # half of the branch that stays
    assert costs["official"] > TINY.layers + 0.5  # that branch, and what the others never run


def test_sampled_widths_price_the_cells_that_they_choose():
    net = Supernet(TINY, 3)
    widths = net.choose_widths("arch_ratio", 1, np.random.default_rng(3))
    prices = supernet_prices(TINY, STUDENT, price, size=SIZE, num_classes=3, behaviour="official")
    choices = net.choices(1)
    sampled = decoupled_latency(prices, choices, behaviour="official", widths=widths, shares=(0, 0, 1))
    held = choices.probabilities()
    one_hot = tuple(torch.eye(3)[list(row)] for row in widths.indices)
    held = Choices(
        tuple(torch.full_like(one, 0.2) for one in held.alpha),
        tuple(torch.full_like(one, 0.5) for one in held.beta),
        one_hot,
    )
    assert float(sampled) == pytest.approx(float(mean_latency(prices, held, "official")))
    sampled.backward()
    assert float(choices.ratio[0].grad.abs().sum()) > 0


def test_the_terms_of_the_regulariser_move_one_group_each():
    for group, name in enumerate(("alpha", "beta", "ratio")):
        choices = parameters()
        prices = supernet_prices(TINY, STUDENT, price, size=SIZE, num_classes=3)
        shares = tuple(float(i == group) for i in range(3))
        decoupled_latency(prices, choices, shares=shares).backward()
        moved = {
            one: any(row.grad is not None and float(row.grad.abs().max()) > 1e-6 for row in getattr(choices, one))
            for one in Choices._fields
        }
        assert moved == {one: one == name for one in Choices._fields}


def test_the_decoder_of_a_derived_network_with_the_heads_widths_is_what_the_prices_count():
    assert [
        (one.height, one.in_channels, one.out_channels, one.kernel) for one in decoder_shapes(TINY, STUDENT, 2, SIZE)
    ] == [
        (2, 64, 32, 1),
        (4, 64, 32, 3),
        (4, 32, 16, 1),
        (8, 32, 16, 3),
    ]


@pytest.fixture
def published(shared_data):
    specs = shared_data.parent / "specs"
    return json.loads((specs / "fasterseg_latency_1080ti.json").read_text())["ms"]


# Stored by the published search beside its architecture, in milliseconds.
@pytest.mark.shared
def test_the_published_student_takes_what_its_search_stored(published):
    student = PUBLISHED["fasterseg_student"]
    assert architecture_latency(student, published_price(published, "official")) == 6.4139770511337275
    assert architecture_latency(student, published_price(published)) == pytest.approx(5.702, abs=5e-4)


@pytest.mark.shared
def test_with_the_published_table_one_row_of_beta_2_takes_nearly_all_of_the_latencys_gradient(published):
    space = SearchSpace()
    choices = ArchitectureParameters(space, STUDENT).choices()
    prices = supernet_prices(space, STUDENT, published_price(published, "official"), behaviour="official")
    decoupled_latency(prices, choices, behaviour="official").backward()
    beta_1, beta_2 = (one.grad[:, 0] for one in choices.beta)
    assert float(beta_1.abs().max()) < 1e-6
    assert float(beta_2[-1]) < -8 * float(beta_2[:-1].abs().max())


def test_an_operator_that_a_table_lacks_is_named():
    with pytest.raises(FeathersegError, match="no entry ConvNorm_H1024_W2048_Cin3_Cout32_kernel3_stride2"):
        architecture_latency(PUBLISHED["fasterseg_student"], published_price({}))
