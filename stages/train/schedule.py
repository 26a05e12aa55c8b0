"""How learning rates and momentum change with the step."""


def trapezoid(step: float, max_steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Give the part of the full learning rate at `step` (from 0): a rise, a plateau, a fall in a line to zero.

    The fall takes the last `decay_fraction` of the steps, and the last step still moves. A step may be a fraction,
    where time is what runs out.
    """
    rise = (step + 1) / warmup_steps if step < warmup_steps else 1.0
    decay_steps = decay_fraction * max_steps
    fall = (max_steps - step) / decay_steps if max_steps - step < decay_steps else 1.0
    return min(rise, fall)


def momentum_rise(step: float, start: float = 0.85, end: float = 0.95, steps: int = 300) -> float:
    """Give Muon's momentum at `step`: low while gradients still turn, then constant."""
    return start + (end - start) * min(1.0, step / steps)
