"""Trains a student in one gloo process and in two, without and with a cache; run by test_two_students.py.

``python two_students.py FOLDER`` leaves a folder for each.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "training"))

import torch
import torch._dynamo  # which every optimiser imports in its first step: once here instead of in every child
from tiny_students import AFFINITY, TUTOR, make, run_student, student_recipe
from two_processes import in_processes  # pyright: ignore[reportMissingImports]

from featherseg.distillation.teacher import teacher_of


def main(folder: Path) -> None:
    for kept in (False, True):
        cache = {"folder": str(folder / "kept"), "epochs": 1} if kept else None
        recipe = student_recipe(
            train={"steps": 4, "batch_size": 3, "drop_last": True, "freeze_bn": True},
            distillation={"affinity": AFFINITY, "cache": cache},
        )
        for count in (1, 2):

            def work(_: int) -> None:
                run_student(folder / f"{count}-{kept}", recipe, teacher_of(make(TUTOR, 1)))  # noqa: B023

            statuses = in_processes(count, work)
            assert statuses == [0] * count, statuses


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
