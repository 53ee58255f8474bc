"""Randomness as a pure function of its name."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.randomness import generator

words = st.integers(0, 2**32 - 1)


@given(seed=words, indices=st.lists(words, max_size=3))
def test_the_same_name_gives_the_same_numbers(seed: int, indices: list[int]) -> None:
    first, second = (generator(seed, "augment", *indices).integers(2**62, size=4).tolist() for _ in range(2))
    assert first == second


@given(
    one=st.tuples(words, st.sampled_from(["order", "augment", "scene"]), words, words),
    other=st.tuples(words, st.sampled_from(["order", "augment", "scene"]), words, words),
)
def test_another_seed_stream_or_index_gives_other_numbers(one: tuple, other: tuple) -> None:
    numbers = [generator(*name).integers(2**62, size=4).tolist() for name in (one, other)]
    assert (numbers[0] == numbers[1]) == (one == other)


@pytest.mark.parametrize("position", [0, 2, 3])
def test_neighbours_are_unlike(position: int) -> None:
    """Mean and correlation of what 2,000 consecutive seeds, epochs or samples draw first."""
    drawn = []
    for value in range(2000):
        name = [7, "augment", 3, 5]
        name[position] = value
        drawn.append(generator(*name).random())  # type: ignore[arg-type]
    mean = sum(drawn) / len(drawn)
    products = [(a - mean) * (b - mean) for a, b in pairwise(drawn)]
    assert abs(mean - 0.5) < 0.03
    assert abs(sum(products) / len(products) * 12) < 0.1


def test_the_numbers_never_change() -> None:
    """Golden: first drawn when the function was written; a change would break every run that is to be resumed."""
    assert generator(1, "augment", 3, 5).integers(0, 1000, 6).tolist() == [718, 434, 870, 433, 868, 83]
