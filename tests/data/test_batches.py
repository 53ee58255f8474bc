"""Which sample comes when: every epoch once, the same from any step on, with any number of workers and processes."""

import multiprocessing
import os
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from featherseg.data.batches import Batch, BatchPlan, TrainingSamples, collate, epoch_order, training_batches
from featherseg.data.dataset import Sample
from featherseg.data.labels import LabelSet
from featherseg.data.transforms import Augmentation
from featherseg.errors import FeathersegError

LABELS = LabelSet("abc", ("a", "b", "c", "d"), ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)))


class Blocks:
    """Seven 12x16 images; class 1 is in image 5 alone, class 2 in images 2 and 5, class 3 in none."""

    name, split, labels = "blocks/16x12", "train", LABELS

    def __init__(self) -> None:
        self.reads: Counter[int] = Counter()

    def __len__(self) -> int:
        return 7

    def read(self, index: int) -> Sample:
        self.reads[index] += 1
        label = np.zeros((12, 16), np.uint8)
        label[3, 4] = {5: 1}.get(index, 0)
        label[7, 9] = 2 if index in (2, 5) else 0
        return Sample(np.full((12, 16, 3), 10 * index, np.uint8), label, self.key(index))

    def key(self, index: int) -> str:
        return str(index)

    def paths(self, index: int) -> None:
        return None

    def fingerprint(self) -> str:
        return "blocks"


class Positions(Dataset):
    """Gives back the place it was asked for."""

    def __getitem__(self, place: tuple[int, int]) -> tuple[np.ndarray, np.int64, str]:
        return np.zeros((1, 1, 3), np.uint8), np.int64(place[1]), f"{place[0]}:{place[1]}"


def samples(**options: float) -> TrainingSamples:
    return TrainingSamples(Blocks(), Augmentation((8, 8)), 3, **options)  # type: ignore[arg-type]


def same(one: Batch, other: Batch) -> bool:
    return one.keys == other.keys and torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)


@settings(max_examples=100)
@given(length=st.integers(1, 40), size=st.integers(1, 12), drop_last=st.booleans())
def test_an_epoch_takes_every_position_once(length: int, size: int, drop_last: bool) -> None:
    plan = BatchPlan(length, size, drop_last)
    for epoch in (0, 2):
        first = epoch * plan.steps_per_epoch
        batches = [plan.positions(step) for step in range(first, first + plan.steps_per_epoch)]
        kept = length - length % size if drop_last and length >= size else length
        assert [place for batch in batches for place in batch] == [(epoch, p) for p in range(kept)]
        assert {len(batch) for batch in batches[:-1]} <= {size}


def test_the_order_of_an_epoch_is_a_permutation_of_its_own() -> None:
    orders = [tuple(epoch_order(1, epoch, 30)) for epoch in range(8)]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len(set(orders)) == 8
    assert tuple(epoch_order(1, 0, 30)) == orders[0]
    assert tuple(epoch_order(2, 0, 30)) != orders[0]


@settings(max_examples=60)
@given(length=st.integers(4, 30), size=st.integers(4, 12), world=st.integers(1, 4), step=st.integers(0, 9))
def test_the_shares_of_the_processes_partition_the_batch(length: int, size: int, world: int, step: int) -> None:
    plan = BatchPlan(length, size)
    shares = [
        [
            key
            for b in training_batches(Positions(), plan, start=step, stop=step + 1, workers=0, rank=r, world=world)
            for key in b.keys
        ]
        for r in range(min(world, len(plan.positions(step))))
    ]
    joined = [key for share in shares for key in share]
    assert sorted(joined) == sorted(f"{e}:{p}" for e, p in plan.positions(step))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_any_start_gives_the_batches_of_a_run_from_the_beginning() -> None:
    plan = BatchPlan(7, 3)
    whole = list(training_batches(samples(class_uniform=0.4), plan, start=0, stop=9, workers=0))
    assert [len(batch) for batch in whole[:4]] == [3, 3, 1, 3]
    for start in range(9):
        part = list(training_batches(samples(class_uniform=0.4), plan, start=start, stop=9, workers=0))
        assert len(part) == 9 - start
        assert all(same(a, b) for a, b in zip(part, whole[start:], strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    plan = BatchPlan(7, 3)
    here = list(training_batches(samples(class_uniform=0.4), plan, start=2, stop=8, workers=0))
    there = list(training_batches(samples(class_uniform=0.4), plan, start=2, stop=8, workers=workers))
    assert all(same(a, b) for a, b in zip(here, there, strict=True))


def test_one_image_is_augmented_differently_in_every_epoch() -> None:
    random = np.random.default_rng(0)

    class Noise(Blocks):
        picture = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)

        def __len__(self) -> int:
            return 1

        def read(self, index: int) -> Sample:
            return Sample(self.picture, np.zeros((12, 16), np.uint8), "0")

    source = TrainingSamples(Noise(), Augmentation((8, 8)), 3)
    seen = {source[(epoch, 0)][0].tobytes() for epoch in range(10)}
    assert len(seen) == 10


def test_the_share_of_class_uniform_samples_draws_classes_evenly_and_keeps_them_in_the_crop() -> None:
    source = TrainingSamples(Blocks(), Augmentation((4, 4), scale=(1.0, 1.0)), 3, class_uniform=1.0)
    assert {k: list(v) for k, v in source.images_of_class().items()} == {0: list(range(7)), 1: [5], 2: [2, 5]}
    drawn = [source[(epoch, position)] for epoch in range(200) for position in range(7)]
    # A third of the draws asks for class 1, which image 5 alone shows.
    shows = {k: np.mean([(label == k).any() for _, label, _ in drawn]) for k in (1, 2)}
    assert shows[1] == pytest.approx(1 / 3, abs=0.05)
    assert shows[2] >= 1 / 3 - 0.05
    keys = Counter(key for _, _, key in drawn)
    assert keys["5"] / len(drawn) == pytest.approx(1 / 3 + 1 / 6 + 1 / 21, abs=0.05)


def test_class_uniform_leaves_the_rest_of_the_epoch_as_it_was() -> None:
    plain, mixed = samples(), samples(class_uniform=0.3)
    places = [(epoch, position) for epoch in range(30) for position in range(7)]
    kept = sum(plain[place][2] == mixed[place][2] for place in places) / len(places)
    assert 0.7 <= kept < 0.95


def test_a_sample_is_decoded_once_with_the_cache_and_every_time_without() -> None:
    for cache, reads in ((True, 1), (False, 4)):
        source = TrainingSamples(Blocks(), Augmentation((8, 8)), 3, cache=cache)
        for epoch in range(4):
            for position in range(7):
                source[(epoch, position)]
        assert isinstance(source.dataset, Blocks)
        assert set(source.dataset.reads.values()) == {reads}


@pytest.mark.parametrize(("count", "parts", "expected"), [(7, 3, [3, 2, 2]), (2, 4, [1, 1]), (4, 1, [4])])
def test_a_batch_splits_into_nearly_equal_parts_none_empty(count: int, parts: int, expected: list[int]) -> None:
    batch = collate([(np.full((2, 2, 3), i, np.uint8), np.uint8(i), str(i)) for i in range(count)])
    cut = batch.split(parts)
    assert [len(part) for part in cut] == expected
    assert [key for part in cut for key in part.keys] == batch.keys
    assert torch.equal(torch.cat([part.images for part in cut]), batch.images)
    assert torch.equal(torch.cat([part.targets for part in cut]), batch.targets)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_spoilt_sample_gives_the_readers_message_alone(workers: int) -> None:
    class Spoilt(Blocks):
        def read(self, index: int) -> Sample:
            raise FeathersegError(f"image-{index}.png: truncated. Copy it again.")

    source = TrainingSamples(Spoilt(), Augmentation((8, 8)), 3)
    with pytest.raises(FeathersegError) as caught:
        list(training_batches(source, BatchPlan(7, 3), start=0, stop=2, workers=workers))
    first = epoch_order(3, 0, 7)[0]
    assert str(caught.value) == f"image-{first}.png: truncated. Copy it again."


def test_signals_to_the_whole_process_group_leave_the_workers_at_work() -> None:
    batches = training_batches(samples(), BatchPlan(7, 3), start=0, stop=40, workers=1)
    next(batches)
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    assert sum(1 for _ in batches) == 39
