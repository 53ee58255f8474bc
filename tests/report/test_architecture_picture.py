"""The picture of an architecture: a PNG of its own for every architecture, the same for the same."""

from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.report.architecture_picture import architecture_picture

STUDENT = PUBLISHED["fasterseg_student"].to_dict()


def test_the_same_architecture_gives_the_same_bytes():
    assert architecture_picture(STUDENT) == architecture_picture(STUDENT)


def test_one_other_operator_is_seen():
    changed = PUBLISHED["fasterseg_student"].to_dict()
    changed["branches"][1]["layers"][-1]["operator"] = "conv"
    assert architecture_picture(STUDENT)[:4] == b"\x89PNG"
    assert architecture_picture(changed) != architecture_picture(STUDENT)
