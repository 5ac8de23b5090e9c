"""Draws the training log as an SVG, without a plotting library."""

from __future__ import annotations

import json

from settings import HERE, WORK

WIDTH, HEIGHT, LEFT, BOTTOM = 720, 360, 60, 40


def smooth(values: list[float], span: int = 5) -> list[float]:
    return [sum(values[max(0, i - span + 1) : i + 1]) / len(values[max(0, i - span + 1) : i + 1]) for i in range(len(values))]


def draw() -> str:
    lines = (WORK / "run" / "log.jsonl").read_text().splitlines()
    steps = {row["step"]: row for row in map(json.loads, lines)}  # a resumed run writes some steps again
    rows = [steps[step] for step in sorted(steps)]
    tokens = [row["tokens"] / 1e6 for row in rows]
    losses = smooth([row["loss"] for row in rows])
    rates = [row["rate"] for row in rows]
    low, high, last = min(losses) - 0.1, min(max(losses), 7.0), max(tokens)

    def place(x: float, y: float) -> str:
        across = LEFT + (WIDTH - LEFT - 20) * x / last
        down = 20 + (HEIGHT - BOTTOM - 20) * (1 - y)
        return f"{across:.1f},{down:.1f}"

    loss_line = " ".join(place(x, min((y - low) / (high - low), 1.0)) for x, y in zip(tokens, losses, strict=True))
    rate_line = " ".join(place(x, y * 0.25) for x, y in zip(tokens, rates, strict=True))
    marks = []
    value = int(low * 2 + 1) / 2
    while value < high:
        _, down = place(0, (value - low) / (high - low)).split(",")
        marks.append(f'<path d="M{LEFT} {down}H{WIDTH - 20}" stroke="#8884"/>')
        marks.append(f'<text x="{LEFT - 8}" y="{down}" text-anchor="end">{value:g}</text>')
        value += 0.5
    step = max(1, round(last / 8))
    for tick in range(0, int(last) + 1, step):
        across, _ = place(tick, 0).split(",")
        marks.append(f'<text x="{across}" y="{HEIGHT - 22}" text-anchor="middle">{tick}</text>')
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" fill="#888">',
        *marks,
        f'<polyline points="{rate_line}" fill="none" stroke="#c80" stroke-width="1"/>',
        f'<polyline points="{loss_line}" fill="none" stroke="#27c" stroke-width="1.5"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">million tokens</text>',
        f'<text x="{WIDTH - 24}" y="32" text-anchor="end">blue: training loss (nats per token, weighted); orange: learning rate</text>',
        "</svg>",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    (HERE / "curve.svg").write_text(draw())
