"""Which of CamVid's 701 labelled frames belong to which split: 367 train, 101 val, 233 test.

The split of Badrinarayanan et al. 2017 (SegNet) follows the drives and is regular enough to be written as runs of frame
numbers. Frames are 30 a second and were labelled once a second; 0016E5 was also labelled at 15 a second for a stretch,
which is the val split. Note that val lies inside a train drive and that only Seq05VD is a drive nothing was trained on.
"""

RUNS: dict[str, tuple[tuple[str, int, int, int], ...]] = {
    # stem of the first frame, first, last (included), step
    "train": (
        ("0001TP_006690", 6690, 8520, 30),
        ("0006R0_f00930", 930, 3930, 30),
        ("0016E5_00390", 390, 870, 30),
        ("0016E5_00901", 901, 901, 1),
        ("0016E5_00930", 930, 2400, 30),
        ("0016E5_04350", 4350, 7920, 30),
        ("0016E5_08190", 8190, 8640, 30),
    ),
    "val": (("0016E5_07959", 7959, 8159, 2),),
    "test": (
        ("0001TP_008550", 8550, 10380, 30),
        ("Seq05VD_f00000", 0, 5100, 30),
    ),
}


def split_stems(split: str) -> tuple[str, ...]:
    """Return the frame names of a split, in the order of the published lists.

    >>> len(split_stems("train")), split_stems("test")[0], split_stems("val")[-1]
    (367, '0001TP_008550', '0016E5_08159')
    """
    stems = []
    for first_stem, first, last, step in RUNS[split]:
        prefix = first_stem.rstrip("0123456789")
        digits = len(first_stem) - len(prefix)
        stems += [f"{prefix}{number:0{digits}d}" for number in range(first, last + 1, step)]
    return tuple(stems)
