"""What the soaks of connections share: how a sample is shown, and what counts as growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SAMPLES = 20
"""Taken along the way."""


def show(done: int, seconds: float, sample: Mapping[str, float]) -> None:
    """Print one sample."""
    print(
        f"{done:9} connections {seconds:7.1f} s  fds {sample['fds']:5.0f}"
        f"  RSS {sample['rss'] / 2**20:8.2f} MiB  objects {sample['objects']:8.0f}",
        flush=True,
    )


def growth(samples: Sequence[Mapping[str, float]], allowed: Mapping[str, float]) -> list[str]:
    """What has grown between the first tenth and the end, beyond what is allowed."""
    first, last = samples[min(len(samples) - 1, SAMPLES // 10 - 1)], samples[-1]
    return [
        f"{key} grew from {first[key]:.0f} to {last[key]:.0f}"
        for key, most in allowed.items()
        if last[key] - first[key] > most
    ]
