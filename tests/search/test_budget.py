"""Budgets: the fastest network against all networks, and what is decoded within a budget."""

import re
from itertools import product

import pytest
from test_decoding import random_choices
from test_latency import price

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg import FasterSeg
from featherseg.models.fasterseg_cells import OPERATORS
from featherseg.models.fasterseg_shapes import OperatorShape
from featherseg.search.budget import Pricing, _Priced, check_budget, decode_within, fastest_architecture
from featherseg.search.decoding import PAIRS, DecodedBranch, decode_pairs, to_architecture
from featherseg.search.outcome import measured_within
from featherseg.search.space import STUDENT, TEACHER, SearchSpace

TINY = SearchSpace(layers=4, base=3, widths=(4, 12))
SIZE = (64, 128)


def conv_is_cheapest(shape: OperatorShape) -> float:
    """Wide maps of few layers cost less than narrow ones, so that the least is not simply the narrowest."""
    uneven = 1 + (7 * shape.in_channels + 3 * shape.out_channels) % 11 / 5
    return uneven * (0.5 if shape.kind == "conv" else 1.0)


def every_branch(space: SearchSpace, end: int):
    """All branches of the operator conv that end at a scale, as long as they may be."""
    for length in range(space.least_kept(end), space.layers + 1):
        for downs in product((0, 1), repeat=length - 1):
            if sum(downs) == end:
                path = tuple(sum(downs[:i]) for i in range(length))
                for widths in product(space.widths, repeat=length - 1):
                    yield DecodedBranch(("conv",) * length, path, widths)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_fastest_network_is_the_fastest_of_all(scale):
    def priced(shape):
        return conv_is_cheapest(shape) * (scale if shape.height == 8 else 1)

    pricing = Pricing(TINY, STUDENT, priced, SIZE, 3)
    every = [
        pricing.whole(to_architecture(TINY, STUDENT, branches))
        for ends in PAIRS
        for branches in product(*(every_branch(TINY, end) for end in ends))
    ]
    fastest = fastest_architecture(pricing)
    assert fastest.milliseconds == pytest.approx(min(every))
    assert fastest.milliseconds == pytest.approx(pricing.whole(fastest.architecture))


def test_a_budget_below_the_fastest_is_refused_with_the_fastest():
    pricing = Pricing(TINY, STUDENT, price, SIZE, 3)
    fastest = fastest_architecture(pricing).milliseconds
    with pytest.raises(FeathersegError, match=r"cannot be met.*takes .* ms \(by the table\) for 64x128") as refused:
        check_budget(pricing, 0.9999 * fastest)
    said = float(re.search(r"takes (\S+) ms", str(refused.value))[1])  # type: ignore[index]
    assert fastest <= said <= 1.01 * fastest
    assert check_budget(pricing, said).milliseconds == fastest


def test_a_budget_that_the_fastest_keeps_by_the_table_alone_is_refused():
    pricing = Pricing(TINY, STUDENT, price, SIZE, 3)
    fastest = fastest_architecture(pricing)
    with pytest.raises(FeathersegError, match=r"takes .* ms \(measured\)"):
        check_budget(pricing, 1.1 * fastest.milliseconds, lambda one: 1.2 * pricing.whole(one))
    assert check_budget(pricing, 1.3 * fastest.milliseconds, lambda one: 1.2 * pricing.whole(one)) == fastest


@pytest.mark.parametrize("share", [1.06, 1.1, 1.15, 1.19, 1.3, 2.0])
def test_a_network_that_measures_too_slow_gives_way_to_one_that_keeps_the_budget(monkeypatch, share):
    """Networks measure 1.2 times what the table says, the fastest 1.05 times."""
    pricing = Pricing(SearchSpace(layers=7, base=3, widths=(4, 8, 12)), STUDENT, price, SIZE, 3)
    fastest, choices = fastest_architecture(pricing), random_choices(pricing.space, 1)

    def measured(network, size, runtime):
        factor = 1.05 if network.architecture == fastest.architecture else 1.2
        return factor * pricing.whole(network.architecture)

    monkeypatch.setattr("featherseg.search.outcome.network_milliseconds", measured)
    budget = share * fastest.milliseconds
    first = next(iter(decode_within(pricing, choices, budget).values()))
    found, taken = measured_within(first, pricing, None, choices, budget)  # type: ignore[arg-type]
    assert taken <= budget
    assert taken == measured(FasterSeg(found.architecture, 3), SIZE, None)


@pytest.mark.parametrize("role", [STUDENT, TEACHER])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_decoded_within_a_budget_keeps_it(seed, role):
    space = SearchSpace(layers=7, base=3, widths=(4, 8, 12))
    pricing = Pricing(space, role, price, SIZE, 3)
    choices = random_choices(space, seed, role)
    fastest = fastest_architecture(pricing).milliseconds
    plain = {pair: pricing.whole(one) for pair, one in decode_pairs(space, role, choices).items()}
    for share in (1.0, 1.02, 1.1, 1.3, 2.0):
        fitted = decode_within(pricing, choices, share * fastest)
        assert fitted
        for pair, one in fitted.items():
            assert one.milliseconds <= share * fastest
            assert one.milliseconds == pytest.approx(pricing.whole(one.architecture))
            if plain[pair] <= share * fastest:
                assert one.milliseconds == plain[pair]


def test_with_budget_enough_the_network_is_the_plainly_decoded_one():
    pricing = Pricing(TINY, STUDENT, price, SIZE, 3)
    choices = random_choices(TINY, 1)
    fitted = decode_within(pricing, choices, 1e9)
    assert {pair: one.architecture for pair, one in fitted.items()} == decode_pairs(TINY, STUDENT, choices)


@pytest.mark.parametrize("end", [0, 1, 2])
@pytest.mark.parametrize("worth", [0.0, 0.3])
def test_a_priced_branch_is_the_best_of_all(end, worth):
    """Over all paths, deleted skips, operators and widths: relative log-probabilities less the milliseconds' price."""
    pricing = Pricing(TINY, STUDENT, price, SIZE, 3)
    choices = random_choices(TINY, 5, skips=0.7)
    logs = [[one.log_softmax(-1) for one in group] for group in choices]
    cost, best = pricing.cell(), float("-inf")
    for downs in product((0, 1), repeat=3):
        path = [sum(downs[:i]) for i in range(4)]
        if path[-1] != end:
            continue
        chance = sum(
            float(logs[1][s - 1][layer - s - 1][int(path[layer - 1] == s)])
            for layer, s in enumerate(path)
            if s and layer > s
        )
        for operators in product(OPERATORS, repeat=4):
            kept = [layer for layer, one in enumerate(operators) if one != "skip"]
            if len(kept) < TINY.least_kept(end) or any(downs[i] and i not in kept for i in range(3)):
                continue
            if kept[-1] != 3 and any(downs[kept[-1] :]):
                continue
            alpha = sum(
                float(logs[0][path[i]][i - path[i]][OPERATORS.index(one)] - logs[0][path[i]][i - path[i]].max())
                for i, one in enumerate(operators)
            )
            for widths in product((0, 1), repeat=len(kept) - 1):
                score, taken = chance + alpha, STUDENT.stem
                for number, layer in enumerate(kept):
                    scale = path[layer]
                    if number == len(kept) - 1:
                        to, given = scale, STUDENT.head
                    else:
                        to = path[layer + 1]
                        row = logs[2][to][layer + 1 - to if to else layer]
                        given = TINY.widths[widths[number]]
                        score += float(row[widths[number]] - row.max())
                    score -= worth * cost(operators[layer], scale, to, taken, given)
                    taken = given
                best = max(best, score)
    found, _ = _Priced(pricing, choices).branch(end, worth)
    assert found == pytest.approx(best)


def test_a_dearer_millisecond_makes_no_slower_branch():
    pricing = Pricing(SearchSpace(layers=7, base=3, widths=(4, 8, 12)), STUDENT, price, SIZE, 3)
    priced = _Priced(pricing, random_choices(pricing.space, 3))

    def cells(worth):
        branch = priced.branch(2, worth)[1]
        widths = (STUDENT.stem, *branch.widths, STUDENT.head)
        path = (*branch.path, branch.path[-1])
        return sum(
            pricing.cell()(operator, path[i], path[i + 1], widths[i], widths[i + 1])
            for i, operator in enumerate(branch.operators)
        )

    taken = [cells(worth) for worth in (0.0, 0.01, 0.1, 1.0, 10.0)]
    assert taken == sorted(taken, reverse=True)
    assert taken[0] > taken[-1]


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(FeathersegError, match="a budget of 0 ms cannot be met"):
        check_budget(Pricing(TINY, STUDENT, price, SIZE, 3), 0.0)
