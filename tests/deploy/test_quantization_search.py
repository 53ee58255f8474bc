"""Which layers an int8 program keeps in float32, with judges that are made up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.deploy.quantization_search import ranked, restore

LAYERS = ("a", "b", "c", "d", "e")


class MadeUp:
    """A judge whose loss is given by how many layers are kept; it remembers what it was asked."""

    def __init__(self, losses: list[float]) -> None:
        self.losses, self.asked = losses, []

    def __call__(self, kept):
        self.asked.append(kept)
        return {"loss": self.losses[len(kept)]}


def search(losses, bound, order=LAYERS):
    judge = MadeUp(losses)
    return restore(bound, LAYERS, judge, lambda verdict: verdict["loss"], lambda: order), judge


losses = st.lists(st.floats(0, 10), min_size=len(LAYERS) + 1, max_size=len(LAYERS) + 1)


@given(losses, st.floats(0, 10), st.permutations(LAYERS))
def test_the_loss_is_under_the_bound_or_the_search_says_that_it_is_not(given_losses, bound, order):
    found, _ = search(given_losses, bound, order)
    assert found.met == (found.verdict["loss"] <= bound)


@given(losses, st.floats(0, 10), st.permutations(LAYERS))
def test_no_shorter_beginning_of_the_ranking_would_do(given_losses, bound, order):
    found, _ = search(given_losses, bound, order)
    if found.met:
        first = next(count for count in range(len(LAYERS) + 1) if given_losses[count] <= bound)
        assert set(found.kept) == set(order[:first])


@given(losses, st.floats(0, 10))
def test_what_cannot_be_met_ends_with_the_program_that_loses_least(given_losses, bound):
    found, judge = search(given_losses, bound)
    if not found.met:
        assert found.verdict["loss"] == min(given_losses[len(kept)] for kept in judge.asked)


def test_it_is_refused_where_keeping_every_layer_still_loses_too_much():
    found, judge = search([3.0, 2.9, 2.8, 2.7, 2.6, 2.5], 0.3)
    assert (found.met, judge.asked) == (False, [(), LAYERS])


def test_nothing_is_ranked_where_int8_throughout_is_good_enough():
    found = restore(0.3, LAYERS, MadeUp([0.2]), lambda verdict: verdict["loss"], lambda: pytest.fail("was ranked"))
    assert (found.kept, found.met, found.losses) == ((), True, ((0, 0.2),))


def test_layers_are_restored_in_the_order_of_the_ranking():
    found, judge = search([1.0, 0.8, 0.5, 0.2, 0.1, 0.0], 0.3, ("d", "b", "e", "a", "c"))
    assert found.kept == ("d", "b", "e")
    assert judge.asked[2:] == [("d",), ("d", "b"), ("d", "b", "e")]


def test_a_loss_that_is_no_number_is_not_under_the_bound():
    found, _ = search([math.nan, 0.1, 0.1, 0.1, 0.1, 0.0], 0.3)
    assert (found.met, len(found.kept)) == (True, 1)


def test_a_program_without_layers_is_judged_as_it_is():
    found = restore(0.3, (), MadeUp([1.0]), lambda verdict: verdict["loss"], lambda: ())
    assert (found.met, found.losses) == (False, ((0, 1.0),))


@given(st.lists(st.floats(0, 1), min_size=len(LAYERS), max_size=len(LAYERS)))
def test_layers_are_ranked_by_what_each_gains_alone(differing):
    alone = dict(zip(LAYERS, differing, strict=True))
    gains = ranked(LAYERS, lambda kept: alone[kept[0]] if kept else 1.0)
    assert list(gains) == sorted(LAYERS, key=lambda name: (alone[name] - 1.0, LAYERS.index(name)))
    assert gains == {name: 1.0 - alone[name] for name in LAYERS}


def test_ranking_tells_how_far_it_is():
    told = []
    ranked(LAYERS, lambda kept: 0.0, lambda done, total: told.append((done, total)))
    assert told == [(number, 5) for number in range(5)]
