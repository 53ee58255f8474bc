"""Learning-rate schedules as pure functions of the update's number."""

import math

from featherseg.recipes.schema import Schedule


def learning_rate_factor(schedule: Schedule, step: int, total: int) -> float:
    """The factor on the base learning rate of update ``step`` (from 0) in a run of ``total`` updates.

    poly: (1 - t/T)^power (Liu et al. 2015; Rosas-Arias et al. 2020 print it without "1 -"); cosine: half a period
    (Loshchilov and Hutter 2017); step: gamma for every milestone passed (with ``run_epochs`` = n, milestone m is
    passed when m/n of the run's updates are done); exponential: gamma^(t/T). poly and cosine end at ``final``. With
    ``warmup`` = n the first n updates rise linearly from ``warmup_start`` to 1 and t counts from their end. ``first``
    is t at the first update: the published FASSD-Net loop steps its scheduler before the optimiser and so starts at 1.
    With ``slow_start`` = n the first n updates have ``slow_start_factor``, and t counts through them: update n has the
    factor that it would have had anyway (the slow start of DeepLab's published code).
    """
    if step < schedule.slow_start:
        return schedule.slow_start_factor
    if step < schedule.warmup:
        share = (step + 1) / schedule.warmup
        return schedule.warmup_start + (1 - schedule.warmup_start) * share
    length = (schedule.total or total) - schedule.warmup
    t = step - schedule.warmup + schedule.first
    progress = min(1.0, t / length) if length > 0 else 1.0
    if schedule.kind == "poly":
        return schedule.final + (1 - schedule.final) * (1 - progress) ** schedule.power
    if schedule.kind == "cosine":
        return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * progress))
    if schedule.kind == "step":
        # In whole numbers: step / total >= milestone / run_epochs must not depend on how a quotient is rounded.
        epochs = schedule.run_epochs
        passed, unit = (step, 1) if epochs is None else (step * epochs, schedule.total or total)
        return schedule.gamma ** sum(passed >= milestone * unit for milestone in schedule.milestones)
    if schedule.kind == "exponential":
        return schedule.gamma**progress
    return 1.0
