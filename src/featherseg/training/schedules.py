"""Learning-rate schedules as pure functions of the update's number."""

import math

from featherseg.recipes.schema import Schedule


def learning_rate_factor(schedule: Schedule, step: int, total: int) -> float:
    """The factor on the base learning rate of update ``step`` (from 0) in a run of ``total`` updates.

    poly: (1 - t/T)^power (Liu et al. 2015; Rosas-Arias et al. 2020 print it without "1 -"); cosine: half a period
    (Loshchilov and Hutter 2017); step: gamma for every milestone passed; exponential: gamma^(t/T). poly and cosine
    end at ``final``. With ``warmup`` = n the first n updates rise linearly from ``warmup_start`` to 1 and t counts
    from their end. ``first`` is t at the first update: the published FASSD-Net loop steps its scheduler before the
    optimiser and so starts at 1. With ``slow_start`` = n the first n updates have ``slow_start_factor``, and t counts
    through them: update n has the factor that it would have had anyway (the slow start of DeepLab's published code).
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
        return schedule.gamma ** sum(step >= milestone for milestone in schedule.milestones)
    if schedule.kind == "exponential":
        return schedule.gamma**progress
    return 1.0
