"""A miniature search: what moves when, exact resumption, the latency weight's rule, and what it refuses."""

import os
import signal

import pytest
import torch
from search_scenes import PaintedScenes
from test_latency import price

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.recipes.search_reading import parse_search
from featherseg.search import loop
from featherseg.search.budget import Fitted, Pricing, fastest_architecture
from featherseg.search.decoding import decode
from featherseg.search.latency import supernet_prices
from featherseg.search.loop import adjusted_weight, plan_search, run_search
from featherseg.search.outcome import conclude, preferred
from featherseg.search.steps import Learner
from featherseg.search.task import SearchTask, halves, pretraining_passes, searching_passes
from featherseg.training.log import read_log

SIZE = (64, 64)


@pytest.fixture(autouse=True)
def painted(monkeypatch):
    """Data named "painted" are pictures made in memory."""

    def opened(source, split, **_):
        return PaintedScenes(split, 1 if source == "single" else 6 if split == "train" else 2)

    monkeypatch.setattr("featherseg.search.task.open_dataset", opened)


def recipe(**sections):
    values = {
        "name": "tiny",
        "space": {"layers": 4, "base": 3, "widths": [4, 12]},
        "teacher": {"kind": "none"},
        "latency": {"size": list(SIZE), "budget": 60.0},
        "data": {"source": "painted"},
        "augment": {"crop": list(SIZE)},
        "pretrain": {"epochs": 1, "iterations": 2, "batch_size": 2},
        "search": {"epochs": 2, "iterations": 2, "batch_size": 2},
        "architecture": {"lr": 0.05},
        "train": {
            "workers": 0,
            "threads": 1,
            "device": "cpu",
            "checkpoint_every": 3,
            "log_every": 1,
            "recalibration": 2,
        },
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes if isinstance(changes, dict) else changes
    return parse_search(values, "tiny")


def prepared(settings) -> tuple[SearchTask, Learner, Pricing]:
    task = SearchTask(settings)
    role = task.space.roles[task.searched]
    pricing = Pricing(task.space, role, price, SIZE, task.classes)
    prices = supernet_prices(task.space, role, price, size=SIZE, num_classes=task.classes, behaviour=settings.behaviour)
    return task, Learner(task, prices, settings.latency.weight), pricing


def searched(settings, folder, **options):
    task, learner, pricing = prepared(settings)
    result = run_search(task, learner, pricing, folder, **options)
    return task, learner, pricing, result


def state(task, learner):
    tensors = dict(task.network.state_dict())
    return {name: tensor.clone() for name, tensor in tensors.items()} | {"weight": torch.tensor(learner.latency_weight)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that nobody stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featherseg.search.task.open_dataset", lambda s, split, **_: PaintedScenes(split, 6))
        folder = tmp_path_factory.mktemp("whole")
        task, learner, pricing, result = searched(recipe(), folder)
    return task, learner, pricing, result, folder


def test_a_search_trains_weights_alone_and_then_both(whole):
    entries = [entry for entry in read_log(whole[-1]) if "loss" in entry]
    assert [entry["phase"] for entry in entries] == ["pretrain"] * 2 + ["search"] * 4
    assert all(entry["loss"] > 0 for entry in entries)
    assert all(entry["latency"] > 0 for entry in entries[2:])


def test_the_latency_weight_is_set_after_every_epoch_of_the_search(whole):
    decoded = [entry for entry in read_log(whole[-1]) if "decoded_ms" in entry]
    assert [entry["step"] for entry in decoded] == [4, 6]


@pytest.mark.parametrize("at", [1, 4])
def test_a_search_stopped_at_any_step_resumes_to_the_same_bits(whole, tmp_path, monkeypatch, at):
    place = loop.Plan.place

    def signalled(self, step):
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return place(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Plan, "place", signalled)
        stopped = searched(recipe(), tmp_path)[-1]
    assert (stopped.step, stopped.stopped_by) == (at + 1, signal.SIGTERM)
    task, learner, _, result = searched(recipe(), tmp_path, resume=True)
    assert result.step == 6
    assert same(state(task, learner), state(whole[0], whole[1]))
    assert decode(task.space, task.space.roles[0], task.network.choices(0)) == decode(
        task.space, task.space.roles[0], whole[0].network.choices(0)
    )


def test_a_search_killed_between_checkpoints_resumes_to_the_same_bits(whole, tmp_path, monkeypatch):
    settings = recipe(train={"checkpoint_every": 2})
    update = Learner.search

    def killed(self, first, second, step):
        if step == 5:
            raise KeyboardInterrupt
        return update(self, first, second, step)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "search", killed)
        with pytest.raises(KeyboardInterrupt):
            searched(settings, tmp_path)
    task, learner, _, _ = searched(settings, tmp_path, resume=True)
    assert same(state(task, learner), state(whole[0], whole[1]))


def test_another_recipe_does_not_resume(tmp_path):
    searched(recipe(search={"epochs": 1}), tmp_path)
    with pytest.raises(FeathersegError, match=r"other values of architecture\.lr"):
        searched(recipe(search={"epochs": 1}, architecture={"lr": 0.1}), tmp_path, resume=True)


def test_pretraining_moves_no_architecture_and_each_step_of_the_search_moves_both():
    settings = recipe()
    task, learner, _ = prepared(settings)
    network = task.network
    batches = list(loop._stream(task, plan_search(task), 0))
    architecture = [one.detach().clone() for one in network.architecture_parameters()]
    learner.pretrain(batches[0][0], 0)
    assert all(torch.equal(a, b) for a, b in zip(architecture, network.architecture_parameters(), strict=True))
    weights = network.cells["1-0"].keep.operators[1].conv1.weight.detach().clone()
    learner.search(batches[2][0], batches[2][1], 2)
    assert not any(torch.equal(a, b) for a, b in zip(architecture, network.architecture_parameters(), strict=True))
    assert not torch.equal(weights, network.cells["1-0"].keep.operators[1].conv1.weight)


def gradients(behaviour):
    task, learner, _ = prepared(recipe())
    learner.official = behaviour == "official"
    batch = next(iter(loop._stream(task, plan_search(task), 0)))[0]
    learner._backward(batch, ((0, "max"), (0, "min")), task.widths_generator(0))
    return {name: one.grad for name, one in task.network.named_parameters() if one.grad is not None}


def test_going_back_after_each_pass_gives_the_gradients_of_the_sum():
    at_once, one_by_one = gradients("official"), gradients("corrected")
    assert at_once.keys() == one_by_one.keys()
    for name, gradient in at_once.items():
        torch.testing.assert_close(gradient, one_by_one[name], rtol=1e-4, atol=1e-5)


def test_the_published_pretraining_leaves_the_second_architectures_stem_untrained():
    trained = {
        behaviour: {role for role, _ in pretraining_passes(2, behaviour)} for behaviour in ("official", "corrected")
    }
    assert trained == {"official": {0}, "corrected": {0, 1}}


@pytest.mark.parametrize("roles", [1, 2])
def test_every_architecture_is_run_as_it_is_in_both_steps(roles):
    for behaviour in ("official", "corrected"):
        for passes in searching_passes(roles, behaviour):
            assert {role for role, _ in passes} == set(range(roles))
            assert (roles - 1, "arch_ratio") in passes


def test_co_search_moves_the_teacher_by_its_loss_and_the_student_by_its_latency_too(tmp_path):
    task, _, pricing, _ = searched(recipe(teacher={"kind": "co_search"}, search={"epochs": 1}), tmp_path)
    found = conclude(task, pricing, None)
    assert found.teacher is not None
    assert found.architecture.stem == (8, 16, 16)
    assert found.teacher.stem == (12, 24, 24)


def test_a_fixed_teachers_distance_is_part_of_the_architecture_step_alone(tmp_path):
    from featherseg.models.registry import create_model
    from featherseg.models.weights import describe_network, save_weights

    torch.manual_seed(0)
    teacher = create_model("fassd_net_l2", 3)
    about = describe_network(teacher, "fassd_net_l2", 3) | {"classes": list(PaintedScenes("train", 1).labels.classes)}
    path = save_weights(tmp_path / "t.safetensors", teacher.state_dict(), about)
    searched(recipe(teacher={"kind": "fixed", "weights": str(path)}, search={"epochs": 1}), tmp_path / "run")
    entries = [entry for entry in read_log(tmp_path / "run") if "loss" in entry]
    assert ["distance" in entry for entry in entries] == [False, False, True, True]
    other = save_weights(tmp_path / "o.safetensors", teacher.state_dict(), about | {"classes": ["a", "b", "c"]})
    with pytest.raises(FeathersegError, match=r"o\.safetensors: knows 3 classes \(a, b, c\), and the data has 3"):
        SearchTask(recipe(teacher={"kind": "fixed", "weights": str(other)}))


def test_the_official_behaviour_searches_and_decodes(tmp_path):
    settings = recipe(
        behaviour="official",
        space={"layers": 8},
        teacher={"kind": "co_search"},
        latency={"budget": None, "keep_fps": [155, 175]},
        search={"epochs": 1, "iterations": 1},
        pretrain={"epochs": 0},
    )
    task, _, pricing, result = searched(settings, tmp_path)
    assert result.step == 1
    found = conclude(task, pricing, None)
    assert found.teacher is not None
    assert found.predicted == pytest.approx(pricing.whole(found.architecture))
    assert set(found.scores) == {"02", "12"}


def test_of_two_networks_the_one_of_more_accuracy_for_its_time_is_taken():
    """20 % mIoU in 10 ms weigh as 20 x 2^0.07 = 20.995 % in 20 ms, whatever the target."""
    architecture = PUBLISHED["fasterseg_student"]
    pairs = {(2, 1): Fitted(architecture, 10.0, (2, 1)), (2, 0): Fitted(architecture, 20.0, (2, 0))}
    for target in (5.0, 50.0):
        assert preferred(pairs, {(2, 1): 20.0, (2, 0): 20.9}, target).ends == (2, 1)
        assert preferred(pairs, {(2, 1): 20.0, (2, 0): 21.1}, target).ends == (2, 0)
    assert preferred(pairs, {(2, 1): 0.1, (2, 0): None}, 5.0).ends == (2, 1)


def test_the_network_found_keeps_the_budget(whole):
    task, _, pricing, _, _ = whole
    fastest = fastest_architecture(pricing).milliseconds
    tight = recipe(latency={"budget": 1.05 * fastest})
    task.recipe, before = tight, task.recipe
    try:
        found = conclude(task, pricing, None)
    finally:
        task.recipe = before
    assert found.predicted <= 1.05 * fastest


def test_judging_leaves_the_supernet_as_it_is(whole):
    task, learner, pricing, _, _ = whole
    before = state(task, learner)
    conclude(task, pricing, None)
    assert same(before, state(task, learner))


@pytest.mark.parametrize(
    ("milliseconds", "factor"), [([9.0, 9.8], 1.0), ([11.0, 10.5], 2.0), ([5.0, 8.0], 0.5), ([10.0, 10.0], 1.0)]
)
def test_with_a_budget_the_latency_weight_follows_the_mean(milliseconds, factor):
    assert adjusted_weight(0.01, milliseconds, recipe(latency={"budget": 10.0})) == pytest.approx(0.01 * factor)


@pytest.mark.parametrize(("milliseconds", "factor"), [([6.0, 6.2], 1.0), ([5.0, 9.0], 0.5), ([6.0, 7.0], 2.0)])
def test_the_published_rule_goes_by_frames_a_second(milliseconds, factor):
    settings = recipe(latency={"budget": None, "keep_fps": [155, 175]})
    assert adjusted_weight(0.01, milliseconds, settings) == pytest.approx(0.01 * factor)


def test_the_halves_are_disjoint_and_belong_to_the_seed():
    scenes = PaintedScenes("train", 7)
    one, other = halves(scenes, 3)
    assert sorted((*one.indices, *other.indices)) == list(range(7))
    assert [half.indices for half in halves(scenes, 3)] == [one.indices, other.indices]
    assert one.indices != halves(scenes, 4)[0].indices


def test_fewer_than_two_images_are_refused():
    with pytest.raises(FeathersegError, match="has 1 image; a search needs two"):
        SearchTask(recipe(data={"source": "single"}))


def test_a_space_with_no_path_is_refused():
    with pytest.raises(FeathersegError, match="no path to 1/32"):
        SearchTask(recipe(space={"layers": 3}))


def test_weights_that_diverge_stop_the_search_and_keep_the_last_checkpoint(tmp_path):
    with pytest.raises(FeathersegError, match="lower"):
        searched(recipe(pretrain={"lr": 1e30}, train={"clip_norm": None}), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": {"crop": [60, 64]}}, r"augment.crop=\[60,64\]: sides are multiples of 32"),
        ({"search": {"epochs": 0}}, "searches nothing"),
        ({"teacher": {"kind": "fixed"}}, "teacher.weights goes with"),
        ({"latency": {"keep_fps": [1, 2]}}, "not both"),
        ({"search": {"batch_size": 1}}, "search.batch_size=2"),
        ({"behaviour": "official"}, "latency.keep_fps"),
        ({"space": {"layer": 4}}, "did you mean 'layers'"),
        ({"space": {"widths": 8}}, r"space\.widths.*whole twelfths"),
        ({"latency": {"size": 360}}, r"latency\.size.*height and width"),
        ({"space": {"widths": [4, 8]}, "teacher": {"kind": "co_search"}}, "lack 12, the width of the teacher"),
    ],
)
def test_a_recipe_that_cannot_be_searched_says_why(changes, message):
    with pytest.raises(FeathersegError, match=message):
        recipe(**changes)


def test_a_half_that_does_not_fill_a_batch_is_repeated():
    task = SearchTask(recipe(pretrain={"batch_size": 7}))
    assert len(task.samples(task.recipe.pretrain, 0).dataset) == 9
    first, _ = next(iter(loop._stream(task, plan_search(task), 0)))
    assert len(first) == 7
