"""Which accuracy belongs to which speed, and what may stand in one panel."""

import pytest

from featherseg.errors import FeathersegError
from featherseg.report.speed_points import newest, panels, read_judged, read_published, read_timings

NAME = "fassd_net_l2.camvid"


@pytest.fixture
def fast(contestant):
    return contestant(NAME, "openvino", "bf16", 2.5)


def joined(speeds, evaluations, digests=None):
    timings = newest(one for file in speeds for one in read_timings(file))
    return panels(timings, [one for one in map(read_judged, evaluations) if one], digests or {})


def accuracies(speeds, evaluations, digests=None):
    found, _ = joined(speeds, evaluations, digests)
    return [[(point.timing.source, point.miou) for point in panel.points] for panel in found]


def test_weights_take_the_accuracy_of_their_name_and_others_none(benched, evaluated, contestant, fast):
    other = contestant("drbanet.camvid", "onnx", "fp32", 4.0)
    found, lonely = joined([benched(fast, other)], [evaluated(NAME, 57.8)])
    assert [(point.timing.source, point.timing.fps, point.miou) for point in found[0].points] == [(NAME, 400.0, 57.8)]
    assert [one.source for one in lonely] == ["drbanet.camvid"]


def test_a_card_of_the_precision_goes_before_a_newer_one_of_another(benched, evaluated, fast):
    same = evaluated(NAME, 57.7, precision="bf16", date="2026-01-01")
    assert accuracies([benched(fast)], [same, evaluated(NAME, 57.8, date="2026-02-01")]) == [[(NAME, 57.7)]]


def test_of_cards_alike_the_newest_counts(benched, evaluated, fast):
    older, newer = evaluated(NAME, 55.0, date="2026-01-01"), evaluated(NAME, 57.0, date="2026-02-01")
    assert accuracies([benched(fast)], [newer, older]) == [[(NAME, 57.0)]]


def test_a_judging_on_fewer_images_than_the_others_says_so(benched, evaluated, contestant, fast):
    other = contestant("drbanet.camvid", "onnx", "fp32", 4.0)
    cards = [evaluated(NAME, 57.8, precision="bf16", images=4), evaluated("drbanet.camvid", 55.0)]
    found, _ = joined([benched(fast, other)], cards)
    notes = {point.timing.source: point.note for point in found[0].points}
    assert notes[NAME].startswith("judged on 4 images, others on 101")
    assert "judged on" not in notes["drbanet.camvid"]


def test_of_weights_in_the_package_the_digest_tells_which_card_is_theirs(benched, evaluated, fast):
    theirs = evaluated(NAME, 55.0, date="2026-01-01", weights_sha256="cd" * 32)
    cards = [theirs, evaluated(NAME, 57.0, date="2026-02-01")]
    assert accuracies([benched(fast)], cards, {NAME: "cd" * 32}) == [[(NAME, 55.0)]]


def test_weights_of_one_name_in_two_folders_have_no_accuracy(benched, evaluated, contestant):
    speed = benched(contestant("weights.safetensors", "torch", "fp32", 9.0))
    one, two = (evaluated(f"runs/{name}/weights.safetensors", 50.0) for name in "ab")
    assert accuracies([speed], [one]) == [[("weights.safetensors", 50.0)]]
    assert accuracies([speed], [one, two]) == []


def test_the_digest_of_what_was_timed_tells_which_card_is_of_it(benched, evaluated, contestant):
    digests = {"mine.bin": "ba" * 32, "mine.xml": "cd" * 32}
    speed = benched(contestant("mine.xml", "openvino", "bf16", 2.5, sha256=digests))
    theirs = evaluated("a/mine.xml", 55.0, date="2026-01-01", weights_sha256="cd" * 32)
    assert accuracies([speed], [theirs, evaluated("b/mine.xml", 57.0, date="2026-02-01")]) == [[("mine.xml", 55.0)]]
    assert accuracies([speed], [evaluated("mine.xml", 57.0)]) == []
    assert accuracies([speed], [evaluated("mine.xml", 57.0, weights_sha256=None)]) == [[("mine.xml", 57.0)]]


def test_an_older_choices_accuracy_of_another_file_of_the_name_is_not_kept(benched, chosen, contestant, candidate):
    older = chosen(candidate("mine.xml", "openvino", "fp32", 8.0, 65.3, sha256={"mine.xml": "ab"}), date="2026-01-01")
    newer = benched(contestant("mine.xml", "openvino", "fp32", 4.0, sha256={"mine.xml": "cd"}), date="2026-02-01")
    assert accuracies([older, newer], []) == []


def test_a_judging_of_several_views_is_no_accuracy_of_one(benched, evaluated, fast):
    flipped = evaluated(NAME, 59.0, protocol="camvid11/480x360/train→test+flip")
    assert accuracies([benched(fast)], [flipped]) == []


def test_another_input_scale_has_no_accuracy_but_its_own(chosen, evaluated, candidate):
    half = candidate(NAME, "onnx", "fp32", 2.0, None, scale=0.5)
    assert accuracies([chosen(half)], [evaluated(NAME, 57.8)]) == []
    assert accuracies([chosen(half | {"miou": 50.5})], []) == [[(NAME, 50.5)]]


def test_a_network_with_fresh_weights_takes_the_one_accuracy_of_it_at_the_same_size(benched, evaluated, contestant):
    fresh = contestant("fassd_net_l2", "onnx", "fp32", 6.0)
    card = evaluated(NAME, 57.8)
    assert accuracies([benched(fresh)], [card]) == [[("fassd_net_l2", 57.8)]]
    assert accuracies([benched(fresh, size="1024x2048")], [card]) == []
    assert accuracies([benched(fresh)], [card, evaluated("fassd_net_l2.mine", 60.0)]) == []
    assert accuracies([benched(fresh)], [evaluated(NAME, 57.8, arguments={"decoder": True})]) == []


def test_protocols_never_share_a_panel(benched, evaluated, chosen, candidate, fast):
    choice = chosen(candidate(NAME, "openvino", "fp32", 3.0, 65.3))
    found, _ = joined([benched(fast), choice], [evaluated(NAME, 57.8)])
    assert [panel.protocol for panel in found] == ["camvid11/480x360/train→test", "camvid11/480x360/train→val"]
    assert [len(panel.points) for panel in found] == [2, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"machine": {"cpu": "another", "cores": 2, "memory_gib": 8.0}},
        {"size": "720x960"},
        {"threads": 4},
        {"device": "cuda"},
        {"environment": {"abilities": ["avx2"]}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_conditions_never_share_a_panel(benched, evaluated, fast, other):
    found, _ = joined([benched(fast), benched(fast, **other)], [evaluated(NAME, 57.8)])
    assert [len(panel.points) for panel in found] == [1, 1]


def test_a_choice_and_a_benchmark_of_the_same_conditions_share_one(benched, chosen, evaluated, candidate, fast):
    choice = chosen(candidate("drbanet.camvid", "onnx", "fp32", 6.0, None))
    found, _ = joined([benched(fast), choice], [evaluated(NAME, 57.8), evaluated("drbanet.camvid", 55.4)])
    assert [len(panel.points) for panel in found] == [2]


def test_of_two_timings_of_the_same_the_newer_counts(benched, evaluated, contestant):
    times = {"2026-03-01": 2.0, "2026-04-01": 4.0, "2026-01-01": 8.0}
    cards = [benched(contestant(NAME, "onnx", "fp32", p50), date=date) for date, p50 in times.items()]
    found, _ = joined(cards, [evaluated(NAME, 57.8)])
    assert [point.timing.p50_ms for point in found[0].points] == [4.0]


def test_the_accuracy_of_an_older_choice_is_kept(benched, chosen, contestant, candidate):
    older = chosen(candidate(NAME, "onnx", "fp32", 8.0, 65.3), date="2026-01-01")
    newer = benched(contestant(NAME, "onnx", "fp32", 4.0), date="2026-02-01")
    for cards in ([older, newer], [newer, older]):
        found, _ = joined(cards, [])
        assert [(point.timing.p50_ms, point.miou, point.note) for point in found[0].points] == [(4.0, 65.3, older.name)]


def test_the_papers_points_are_rows_with_accuracy_and_speed_by_their_last_table(made):
    rows = [
        {"row": "A", "model": "a", "paper": {"fps": {"I": 52.3, "IV": 53.0}, "miou": {"I": 76.4, "IV": 77.4}}},
        {"row": "B", "model": "b", "paper": {"fps": {"I": 56.3}, "miou": {"I": 75.2}}},
        {"row": "C", "model": "c", "table": "2", "paper": {"miou": 71.3}},
        {"row": "D", "model": "d", "table": "5", "paper": {"fps": 163.9, "miou": 73.1}},
        {"row": "stage", "model": "a", "table": "II", "paper": {"output_size": [1, 2, 3]}},
    ]
    found = read_published(made("complexity", {"rows": rows}, protocol="fassd_net/1024x2048/19 classes/counted"))
    assert {one.table: [(p.row, p.fps, p.miou) for p in one.points] for one in found} == {
        "IV": [("A", 53.0, 77.4)],
        "I": [("B", 56.3, 75.2)],
        "5": [("D", 163.9, 73.1)],
    }
    assert {(one.paper, one.size) for one in found} == {("fassd_net", (1024, 2048))}


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"p50_ms": 0}, "p50_ms must be a number above 0"),
        ({"p50_ms": "fast"}, "p50_ms must be a number"),
        ({"source": None}, "source must be a text"),
        ({"stages": {"network": {"p50_ms": -1}}}, "p50_ms must be a number above 0"),
    ],
)
def test_a_spoilt_row_of_speeds_is_named(benched, fast, spoilt, said):
    with pytest.raises(FeathersegError, match=said):
        read_timings(benched(fast | spoilt))


@pytest.mark.parametrize(
    ("figures", "protocol", "said"),
    [
        ({"contestants": [], "threads": 2}, "speed/36x52/2 threads", "contestants must be an object"),
        ({"contestants": {"a": 3}, "threads": 2}, "speed/36x52/2 threads", "a must be an object"),
        ({"contestants": {}}, "speed/36x52/2 threads", "does not tell"),
        ({"contestants": {}, "threads": 2}, "speed", "does not tell"),
    ],
)
def test_a_spoilt_card_of_speeds_is_named(made, figures, protocol, said):
    with pytest.raises(FeathersegError, match=said):
        read_timings(made("speed", figures, protocol=protocol))
