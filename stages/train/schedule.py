"""The learning rate schedule and Muon's momentum schedule."""


def lr_factor(step: float, max_steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Return the share of the full learning rate at `step`: linear warm-up, constant, linear decay to zero.

    The last step still has a positive rate.

    Args:
        step: steps taken so far; a fraction if training is limited by time.
        max_steps: number of steps.
        warmup_steps: steps of the warm-up.
        decay_fraction: share of the steps, at the end, over which the rate decays.
    """
    warmup = (step + 1) / warmup_steps if step < warmup_steps else 1.0
    decay_steps = decay_fraction * max_steps
    decay = (max_steps - step) / decay_steps if max_steps - step < decay_steps else 1.0
    return min(warmup, decay)


def muon_momentum(step: float, start: float = 0.85, end: float = 0.95, warmup_steps: int = 300) -> float:
    """Return Muon's momentum at `step`: lower at first, when gradients change quickly, then constant."""
    return start + (end - start) * min(1.0, step / warmup_steps)
