"""Learning-rate schedules against their formulas, written out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.recipes.schema import Schedule
from featherseg.training.schedules import learning_rate_factor

steps = st.integers(0, 499)


@given(step=steps, power=st.sampled_from([0.5, 0.9, 1.0, 2.0]), final=st.sampled_from([0.0, 0.1]))
def test_poly(step: int, power: float, final: float) -> None:
    factor = learning_rate_factor(Schedule(kind="poly", power=power, final=final), step, 500)
    assert factor == pytest.approx(final + (1 - final) * (1 - step / 500) ** power, rel=1e-12)


@given(step=steps, final=st.sampled_from([0.0, 0.1]))
def test_cosine(step: int, final: float) -> None:
    factor = learning_rate_factor(Schedule(kind="cosine", final=final), step, 500)
    assert factor == pytest.approx(final + (1 - final) * math.cos(math.pi * step / 1000) ** 2, rel=1e-9, abs=1e-12)


@given(step=steps)
def test_exponential_reaches_gamma_at_the_end(step: int) -> None:
    factor = learning_rate_factor(Schedule(kind="exponential", gamma=0.01), step, 500)
    assert factor == pytest.approx(math.exp(math.log(0.01) * step / 500), rel=1e-9)


def test_step_falls_at_each_milestone() -> None:
    schedule = Schedule(kind="step", gamma=0.5, milestones=(3, 5))
    assert [learning_rate_factor(schedule, s, 8) for s in range(8)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_milestones_in_epochs_are_passed_at_their_epochs_first_update():
    """Hoanh 2020: 0.045 halved at eight of 300 epochs; Caltech-101 has 14 updates of 512 an epoch."""
    passed = (50, 100, 130, 160, 190, 220, 250, 280)
    schedule = Schedule(kind="step", gamma=0.5, milestones=passed, run_epochs=300)
    for step in range(0, 4200):
        epoch = step // 14
        assert learning_rate_factor(schedule, step, 4200) == 0.5 ** sum(epoch >= milestone for milestone in passed)
    assert 0.045 * learning_rate_factor(schedule, 4199, 4200) == 0.00017578125


def test_a_run_of_another_length_passes_milestones_at_the_same_shares():
    schedule = Schedule(kind="step", gamma=0.5, milestones=(50, 280), run_epochs=300)
    factors = [learning_rate_factor(schedule, step, 30) for step in range(30)]
    assert factors == [1.0] * 5 + [0.5] * 23 + [0.25] * 2


def test_constant() -> None:
    assert {learning_rate_factor(Schedule(kind="constant"), s, 8) for s in range(8)} == {1.0}


def test_the_papers_poly_steps_before_its_first_update_and_leaves_before_its_last() -> None:
    """0.02 (1 - t/90000)^0.9 with t = 1 at the first of 89,999 updates (published code; the paper lacks "1 -")."""
    paper = Schedule(kind="poly", power=0.9, total=90_000, first=1)
    first, last = (0.02 * learning_rate_factor(paper, step, 89_999) for step in (0, 89_998))
    assert first == pytest.approx(0.02 * (89_999 / 90_000) ** 0.9, rel=1e-12)
    assert last == pytest.approx(0.02 * (1 / 90_000) ** 0.9, rel=1e-9)


@pytest.mark.parametrize("kind", ["constant", "poly", "cosine", "exponential"])
def test_warm_up_rises_linearly_to_one_and_the_schedule_begins_at_its_end(kind) -> None:
    plain, warm = Schedule(kind=kind), Schedule(kind=kind, warmup=4, warmup_start=0.2)
    rising = [learning_rate_factor(warm, step, 24) for step in range(4)]
    assert rising == pytest.approx([0.4, 0.6, 0.8, 1.0])
    after = [learning_rate_factor(warm, step, 24) for step in range(4, 24)]
    assert after == pytest.approx([learning_rate_factor(plain, step, 20) for step in range(20)])


def test_a_slow_start_holds_the_rate_while_the_schedule_counts_on() -> None:
    """The mobile paper's last stage: 1e-5 for 186 of 120,000 steps, then 1e-4 (1 - t/120000)^0.9 with t from 0."""
    paper = Schedule(kind="poly", power=0.9, slow_start=186, slow_start_factor=0.1)
    rates = {step: 1e-4 * learning_rate_factor(paper, step, 120_000) for step in (0, 185, 186, 60_000, 119_999)}
    assert rates[0] == rates[185] == pytest.approx(1e-5, rel=1e-12)
    assert rates[186] == pytest.approx(1e-4 * (119_814 / 120_000) ** 0.9, rel=1e-12)
    assert rates[60_000] == pytest.approx(1e-4 * 0.5**0.9, rel=1e-12)
    assert rates[119_999] == pytest.approx(1e-4 * (1 / 120_000) ** 0.9, rel=1e-9)


@given(
    kind=st.sampled_from(["constant", "poly", "cosine", "step", "exponential"]),
    warmup=st.integers(0, 30),
    total=st.integers(1, 20),
    step=st.integers(0, 40),
)
def test_every_factor_lies_between_nothing_and_one(kind, warmup: int, total: int, step: int) -> None:
    """A warm-up longer than the run, and a step past its end, included."""
    assert 0.0 <= learning_rate_factor(Schedule(kind=kind, warmup=warmup, milestones=(5,)), step, total) <= 1.0
