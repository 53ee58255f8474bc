"""The page of many cards, from what the commands write."""

import copy
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.data.labels import LabelSet
from featherseg.report.card_files import CardFile, Gathered, Skipped
from featherseg.report.card_report import Strip, card_report

EVIL = "<script>steal()</script>"
LABELS = LabelSet("two", (EVIL, "road & kerb"), ((250, 10, 20), (20, 10, 250)))


@pytest.fixture
def published(made):
    rows = [{"row": "A of the paper", "model": "fassd_net_l2", "paper": {"fps": {"IV": 133.1}, "miou": {"IV": 74.1}}}]
    return made("complexity", {"rows": rows}, protocol="fassd_net/1024x2048/19 classes/counted", name="paper.json")


def page(*files, skipped=(), **more):
    return card_report(Gathered(files, tuple(skipped)), **more).html


def strip():
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (40, 1000)).astype(np.uint8)
    truth[:, :10] = 255
    image = random.integers(0, 256, (40, 1000, 3)).astype(np.uint8)
    return Strip(EVIL, image, truth, {"mine": truth, "theirs": 1 - np.minimum(truth, 1)})


def visible(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.S))


def test_accuracy_and_speed_of_two_cards_become_a_point(evaluated, benched, contestant):
    html = page(evaluated("a.x", 57.8), benched(contestant("a.x", "openvino", "bf16", 2.5)))
    assert "<title>a.x, openvino bf16: 400, 57.8</title>" in html
    assert re.search(r"a\.x\s+openvino bf16\s+57\.8\s+400\.0\s+2\.5", visible(html))
    assert "judged in fp32, a.x.json" in html


def test_without_speeds_the_page_says_so_and_shows_the_papers_points(evaluated, published):
    html = page(evaluated("a.x", 57.8), published)
    assert "No card of `featherseg bench` or `featherseg choose` was found" in html
    assert "<title>A of the paper, fassd_net, table IV, as printed: 133, 74.1</title>" in html
    assert "GTX 1080 Ti" in html


def test_speeds_of_the_papers_networks_stand_beside_the_printed_ones_by_the_network_alone(
    published, benched, contestant
):
    card = benched(contestant("fassd_net_l2", "openvino", "bf16", 25.0), size="1024x2048")
    html = page(published, card)
    assert re.search(r"<title>A of the paper, openvino bf16, [^<]*, network alone: 50, 74.1</title>", html)
    small = page(published, benched(contestant("fassd_net_l2", "openvino", "bf16", 25.0)))
    assert "network alone:" not in small


def test_accuracy_and_speed_of_other_sizes_are_told_to_be_so(evaluated, benched, contestant):
    row = contestant("a.x", "openvino", "bf16", 2.5)
    assert "two protocols" in page(evaluated("a.x", 57.8), benched(row, size="720x960"))
    assert "two protocols" not in page(evaluated("a.x", 57.8), benched(row))


def test_a_spoilt_card_is_named_with_its_reason_and_the_rest_of_the_page_stands(evaluated, made, benched, contestant):
    spoilt = made("speed", {"contestants": {}}, name="spoilt.json")
    good = benched(contestant("a.x", "openvino", "bf16", 2.5))
    made_page = card_report(Gathered((evaluated("a.x", 57.8), spoilt, good), (Skipped("foreign.json", "no card"),)))
    assert [one.name for one in made_page.skipped] == ["foreign.json", "spoilt.json"]
    shown = visible(made_page.html)
    assert re.search(r"spoilt\.json\s+the card does not tell the image", shown)
    assert re.search(r"foreign\.json\s+no card", shown)
    assert "a.x, openvino bf16: 400" in made_page.html


@pytest.mark.parametrize("kind", ["evaluation", "training", "speed", "choice", "complexity", "support", "ablation"])
@pytest.mark.parametrize("figures", [{}, {"iou": 3, "rows": 3, "contestants": 3, "candidates": 3, "a": 3}])
def test_figures_of_any_shape_make_a_page(made, kind, figures):
    assert page(made(kind, figures)).endswith("</html>\n")


ROW = {"source": "a.x", "runtime": "torch", "precision": "fp32", "p50_ms": 2.0, "p90_ms": 3.0, "scale": 1.0}
SOUND = {
    "evaluation": {"miou": 50.0, "miou_interval": [49.0, 51.0], "iou": {"car": 40.0, "road": None}},
    "training": {"score": 50.0, "iou": {"car": 40.0}},
    "speed": {"contestants": {"a": ROW | {"stages": {"network": {"p50_ms": 1.0}}}}, "threads": 2},
    "choice": {"candidates": {"a": ROW | {"miou": 50.0}}, "threads": 2, "protocol": "x/48x32/train→val"},
    "complexity": {"rows": [{"row": "A", "model": "a", "table": "1", "paper": {"fps": {"1": 9}, "miou": {"1": 9}}}]},
    "support": {"a": {"onnx": {"status": "exact", "reason": "none"}}},
    "ablation": {"a": {"miou": 50.0, "miou_deviation": 0.1, "miou_seeds": [50.0, 50.1]}},
    "quantization": {
        "runtime": "openvino",
        "layers": 62,
        "kept": ["/base.0/conv"],
        "loss": {"of": "mIoU", "value": 0.2, "bound": 0.3, "met": True},
        "verdicts": {"float32": {"miou": 0.6612}, "int8": {"miou": 0.6587}},
        "size_bytes": {"float32": 9_145_204, "int8": 2_322_547},
        "speed": {"times_as_fast": 1.5},
        "judged_on": {"images": "camvid/val", "count": 101},
    },
}
FIELDS = {
    "command": "featherseg",
    "seeds": [0],
    "data_fingerprint": None,
    "date": "2026-05-06",
    "commit": {"hash": "c0ffee", "dirty": False},
    "machine": {"cpu": "a", "cores": 2},
    "environment": {"abilities": ["avx2"]},
    "weights": "a.x",
    "recipe": {"name": "a", "train": {"seed": 0}},
    "balance": {"data": "x/val"},
    "precision": "fp32",
}
# Fields whose types reading a card has seen to, see featherseg.cards.
CHECKED = {"command", "date", "figures", "machine", "commit", "seeds"}
NUMBERS = st.sampled_from([0, -1, 10**400, 1e-320, 1e308, float("nan"), float("inf")])
LEAVES = NUMBERS | st.none() | st.booleans() | st.sampled_from(["", "a", "1", "torch"])
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("a1"), inner, max_size=2)
)


def places(value, path=()):
    """The path of everything in a value of JSON, but of the fields that are checked before."""
    if path and path not in {(name,) for name in CHECKED}:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def sound(kind):
    return CardFile(f"{kind}.json", FIELDS | {"kind": kind, "protocol": "a/48x32/2 threads", "figures": SOUND[kind]})


@given(st.sampled_from(sorted(SOUND)), LEAVES | ANYTHING, st.data())
@settings(max_examples=150)
def test_a_card_that_is_spoilt_anywhere_never_breaks_the_page(kind, spoilt, data):
    card = copy.deepcopy(sound(kind).card)
    *way, last = data.draw(st.sampled_from([path for path in places(card) if path[0] not in ("kind", "protocol")]))
    holder: Any = card
    for key in way:
        holder = holder[key]
    holder[last] = spoilt
    others = [sound(other) for other in SOUND if other != kind]
    assert page(*others, CardFile("a.json", card)).endswith("</html>\n")


def test_sound_cards_of_every_kind_are_used():
    made = card_report(Gathered(tuple(map(sound, SOUND))))
    assert made.skipped == ()
    assert "Cards that this page has no place for" not in made.html
    assert made.html.count('<svg viewBox="0 0 760') == 3  # of a's accuracy on two protocols, and the papers'


def test_what_quantising_lost_and_won_is_a_row():
    shown = " ".join(visible(page(sound("quantization"))).split())
    row = "a.x openvino 66.12 65.87 0.2 mIoU 0.3 yes 1 of 62 9.15 2.32 1.5 camvid/val, 101 images quantization.json"
    assert row in shown


def test_every_card_that_is_used_is_listed_and_others_are_counted(evaluated, made):
    used = evaluated("a.x", 57.8, date="2026-05-06T07:08:09Z", commit={"hash": "0123456789abcdef", "dirty": True})
    shown = visible(page(used, made("nms", {"x": 1})))
    assert re.search(r"a\.x\.json\s+evaluation\s+camvid11/480x360/train→test\s+0123456789, changed\s+2026-05-06", shown)
    assert "featherseg evaluation --card a.x.json" in shown
    assert "no place for: 1 (nms)" in shown


def test_strips_are_small_pictures_with_the_share_that_agrees():
    html = page(strips=[strip()], labels=LABELS)
    assert html.count("data:image/jpeg;base64,") == 1
    assert html.count("data:image/png;base64,") == 1 + 3  # legend; label, two predictions
    assert "mine, 100.0 % agree" in html
    assert "theirs, 0.0 % agree" in html
    assert len(html) < 100_000


def test_nothing_hostile_becomes_a_tag_and_nothing_is_fetched(evaluated, benched, contestant, made):
    cards = [
        evaluated(EVIL, 57.8, {EVIL: 1.0}, name=EVIL, protocol=EVIL),
        benched(contestant(EVIL, EVIL, EVIL, 2.5), name=EVIL, machine={"cpu": EVIL}),
        made("support", {EVIL: {EVIL: EVIL}}, protocol=EVIL),
        made("ablation", {EVIL: {"miou": 1.0, "miou_deviation": 0.1}}, protocol=EVIL),
        made(EVIL, {}),
    ]
    html = page(*cards, skipped=[Skipped(EVIL, EVIL)], strips=[strip()], labels=LABELS, title=EVIL)
    assert "<script" not in html
    assert not re.findall(r"<(?:link|iframe|object|base|use|image)\b", html)
    assert {source[:5] for source in re.findall(r'\b(?:src|href)="([^"]*)"', html)} == {"data:"}
    assert "http" not in html.replace('http-equiv="Content-Security-Policy"', "")
