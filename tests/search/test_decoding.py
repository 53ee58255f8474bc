"""Decoding: the published parameters give the published networks; corrected paths are the most probable ones."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg import FasterSeg
from featherseg.models.fasterseg_cells import OPERATORS
from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.search.decoding import decode, decode_pairs, likeliest_path
from featherseg.search.space import STUDENT, TEACHER, Choices, SearchSpace

TINY = SearchSpace(layers=8, base=3)


def random_choices(space: SearchSpace, seed: int, role=STUDENT, skips: float = 0.0) -> Choices:
    """Architecture parameters; ``skips`` is added to those of the skip operator."""
    rng = np.random.default_rng(seed)

    def drawn(rows, columns):
        return torch.from_numpy(rng.normal(size=(rows, columns)))

    columns = len(space.widths) if role.searches_widths else 1
    alpha = tuple(drawn(space.layers - scale, 5) for scale in range(3))
    for one in alpha:
        one[:, 0] += skips
    beta = tuple(drawn(space.layers - scale - 1, 2) for scale in (1, 2))
    return Choices(alpha, beta, tuple(drawn(rows, columns) for rows in space.ratio_rows()))


@pytest.fixture(scope="module")
def published(request):
    nets = request.getfixturevalue("shared_data").parent / "specs" / "fasterseg_arch.json"
    return json.loads(nets.read_text())["nets"]


def published_choices(net: dict, number: int) -> Choices:
    raw = net["raw_arch_params"]
    group = {
        name: tuple(torch.tensor(raw[f"{name}_{number}_{s}"], dtype=torch.float64) for s in scales)
        for name, scales in (("alpha", (0, 1, 2)), ("beta", (1, 2)), ("ratio", (0, 1, 2)))
    }
    return Choices(**group)


ROLES = {"teacher": (0, TEACHER), "student": (1, STUDENT)}


# The parameters and decoded paths of arch_0.pt and arch_1.pt of VITA-Group/FasterSeg, 478b026.
@pytest.mark.shared
@pytest.mark.parametrize("name", ROLES)
def test_the_published_parameters_decode_to_the_published_paths(published, name):
    number, role = ROLES[name]
    branches = decode(SearchSpace(), role, published_choices(published[name], number), "official")
    for end, expected in published[name]["all_decoded_paths"].items():
        branch = branches[int(end)]
        assert [OPERATORS.index(one) for one in branch.operators] == expected["ops"]
        assert list(branch.path) == expected["path"]
        assert list(branch.widths) == expected["widths"]


@pytest.mark.shared
@pytest.mark.parametrize("name", ROLES)
def test_the_published_parameters_decode_to_the_published_networks(published, name):
    number, role = ROLES[name]
    pairs = decode_pairs(SearchSpace(), role, published_choices(published[name], number), "official")
    assert pairs[2, 1] == PUBLISHED[f"fasterseg_{name}"]


@pytest.mark.shared
def test_the_most_probable_path_of_the_published_student_halves_in_its_last_layers(published):
    beta = [one.softmax(-1) for one in published_choices(published["student"], 1).beta]
    path = likeliest_path(beta, 2, 16)
    assert [layer for layer in range(15) if path[layer] < path[layer + 1]] == [13, 14]


def probability(path: tuple[int, ...], beta) -> float:
    result = 1.0
    for layer in range(1, len(path)):
        scale = path[layer]
        if scale and layer > scale:
            result *= float(beta[scale - 1][layer - scale - 1][int(path[layer - 1] == scale)])
    return result


@given(seed=st.integers(0, 10**6), layers=st.integers(4, 9), end=st.integers(0, 2))
def test_the_likeliest_path_is_the_best_of_all_paths(seed, layers, end):
    beta = [one.softmax(-1) for one in random_choices(SearchSpace(layers=layers, base=3), seed).beta]
    every = [tuple(np.cumsum((0, *steps)).tolist()) for steps in product((0, 1), repeat=layers - 1)]
    best = max((path for path in every if path[-1] == end), key=lambda path: probability(path, beta))
    assert tuple(likeliest_path(beta, end, layers)) == best


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    layers=st.integers(8, 16),
    skips=st.sampled_from([-5.0, 0.0, 1.0, 5.0]),
    behaviour=st.sampled_from(["official", "corrected"]),
    role=st.sampled_from([STUDENT, TEACHER]),
)
def test_whatever_is_decoded_is_a_network_that_can_be_built(seed, layers, skips, behaviour, role):
    space = SearchSpace(layers=layers, base=3)
    choices = random_choices(space, seed, role, skips)
    branches = decode(space, role, choices, behaviour)
    for end, branch in branches.items():
        assert branch.path[-1] == end
        assert len(branch.operators) >= space.least_kept(end)
        assert "skip" not in branch.operators
        assert len(branch.widths) == len(branch.operators) - 1
    for architecture in decode_pairs(space, role, choices, behaviour).values():
        with torch.device("meta"):
            FasterSeg(architecture, 3)


def test_the_only_width_of_a_space_is_decoded():
    space = SearchSpace(layers=8, base=6, widths=(6,))
    for branch in decode(space, STUDENT, random_choices(space, 2)).values():
        assert set(branch.widths) == {6}
    for branch in decode(space, TEACHER, random_choices(space, 2, TEACHER)).values():
        assert set(branch.widths) == {12}


def test_decoding_leaves_the_parameters_as_they_are():
    choices = random_choices(TINY, 1, skips=5.0)
    before = [one.clone() for group in choices for one in group]
    decode(TINY, STUDENT, choices, "official")
    assert all(torch.equal(a, b) for a, b in zip(before, [one for group in choices for one in group], strict=True))


def alternating(space: SearchSpace) -> Choices:
    """Every operator is conv, every width the least, every path likely to stay where it is."""
    choices = random_choices(space, 0)
    for one in choices.alpha:
        one.zero_()[:, 1] = 1.0
    for one in choices.beta:
        one.zero_()[:, 1] = 1.0
    for one in choices.ratio:
        one.zero_()[:, 0] = 1.0
    return choices


def test_the_published_path_to_a_sixteenth_halves_a_layer_before_its_own_row():
    choices = alternating(TINY)
    choices.beta[0][3] = torch.tensor([9.0, 0.0])  # of layer 5 at 1/16: it takes layer 4 at 1/8
    halving = {
        behaviour: decode(TINY, STUDENT, choices, behaviour)[1].path.index(1) - 1
        for behaviour in ("official", "corrected")
    }
    assert halving == {"official": 3, "corrected": 4}


def test_an_operator_forbidden_for_one_published_branch_is_forbidden_for_the_next():
    """The weakest skips of the branch to 1/8 cannot be deleted there: its least length is reached."""
    choices = alternating(TINY)
    choices.alpha[0][:, 0] = torch.linspace(2, 9, TINY.layers)  # skips, the last the surest
    choices.beta[0][4] = torch.tensor([9.0, 0.0])  # the branch to 1/16 halves late
    official, corrected = (decode(TINY, STUDENT, choices, one)[1] for one in ("official", "corrected"))
    at_an_eighth = [branch.path.count(0) for branch in (official, corrected)]
    assert at_an_eighth[0] > at_an_eighth[1]


def test_skips_are_deleted_the_surest_first_down_to_the_least_length():
    choices = alternating(TINY)
    choices.alpha[0][:, 0] = torch.tensor([2.0, 9, 3, 8, 7, 4, 6, 5])
    choices.alpha[0][:, 3] = torch.arange(8) * 0.1 + 1.1  # the next best
    branch = decode(TINY, STUDENT, choices)[0]
    assert TINY.least_kept(0) == 3
    assert branch.operators == ("conv_2x",) * 3


def test_a_run_of_skips_behind_a_step_down_keeps_its_weakest():
    choices = alternating(TINY)
    choices.beta[0][3] = torch.tensor([9.0, 0.0])
    choices.alpha[1][4:, 0] = torch.tensor([5.0, 3.0, 4.0])  # layers 5, 6 and 7 at 1/16
    choices.alpha[1][5, 4] = 2.0
    branch = decode(TINY, STUDENT, choices)[1]
    assert branch.path.count(1) == 1
    assert branch.operators[-1] == "conv_2x_downup"


def test_parameters_of_another_space_are_refused():
    with pytest.raises(FeathersegError, match="not of a search space of 8 layers"):
        decode(TINY, STUDENT, random_choices(SearchSpace(layers=9, base=3), 0))


def test_parameters_that_diverged_are_refused():
    choices = random_choices(TINY, 0)
    choices.beta[0][1, 0] = float("nan")
    with pytest.raises(FeathersegError, match="not finite"):
        decode(TINY, STUDENT, choices)


def test_the_official_decoding_of_too_few_layers_is_refused():
    space = SearchSpace(layers=7, base=3)
    with pytest.raises(FeathersegError, match="no path to 1/32 in 7"):
        decode(space, STUDENT, random_choices(space, 0), "official")
