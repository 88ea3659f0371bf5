"""Draws the curves of a soak test as an SVG picture, for light and dark pages."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, GAP = 760, 150, 64, 16, 34, 34
STYLE = """
svg { color-scheme: light dark; font: 12px system-ui, sans-serif; }
.ground { fill: #ffffff; } text { fill: #24292f; } .faint { fill: #57606a; }
.grid { stroke: #d0d7de; stroke-width: 1; } .third { fill: #f6f8fa; }
.curve { fill: none; stroke: #0969da; stroke-width: 1.5; } .limit { stroke: #cf222e; stroke-width: 1.2; stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #8d96a0; }
.grid { stroke: #30363d; } .third { fill: #161b22; }
.curve { stroke: #58a6ff; } .limit { stroke: #ff7b72; }
}
"""


def step_of(span):
    """A round distance of about a quarter of the span."""
    size = 1
    while size * 10 <= span / 4:
        size *= 10
    while size > span / 2 and size > 1e-3:
        size /= 10
    return next((size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 5), size * 10)


def draw(samples, curves):
    import statistics

    last = samples[-1]["seconds"] or 1
    total = TOP + len(curves) * (HEIGHT + GAP) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" role="img" aria-label="Memory, descriptors and threads of a server during a soak test">',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{total}"/>',
        f'<text x="{LEFT}" y="20">A server under mixed calls and faults for {last / 60:.1f} minutes; dashed: what the last third may have</text>',
    ]
    x = lambda seconds: LEFT + (WIDTH - LEFT - RIGHT) * seconds / last
    third = len(samples) // 3
    for at, (name, key, factor, more) in enumerate(curves):
        top = TOP + at * (HEIGHT + GAP)
        values = [sample[key] for sample in samples]
        allowed = statistics.median(values[third : 2 * third]) * factor + more
        step = step_of(max(max(values), allowed))
        highest = step * (int(max(max(values), allowed) / step) + 1)
        y = lambda value: top + 18 + (HEIGHT - 18) * (1 - value / highest)
        begins = x(samples[2 * third]["seconds"])
        parts.append(f'<rect class="third" x="{begins:.1f}" y="{top + 18}" width="{WIDTH - RIGHT - begins:.1f}" height="{HEIGHT - 18}"/>')
        value = 0
        while value <= highest * 1.001:
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
            parts.append(f'<text class="faint" x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
            value += step
        points = " ".join(f"{x(sample['seconds']):.1f},{y(sample[key]):.1f}" for sample in samples)
        parts.append(f'<line class="limit" x1="{begins:.1f}" x2="{WIDTH - RIGHT}" y1="{y(allowed):.1f}" y2="{y(allowed):.1f}"/>')
        parts.append(f'<polyline class="curve" points="{points}"/>')
        parts.append(f'<text x="{LEFT}" y="{top + 11}">{name}</text>')
    minutes, unit = (last / 60, "min") if last >= 120 else (last, "s")
    step = step_of(minutes)
    bottom = TOP + len(curves) * (HEIGHT + GAP) - GAP + 16
    value = 0
    while value <= minutes:
        parts.append(f'<text class="faint" x="{x(value / minutes * last):.1f}" y="{bottom}" text-anchor="middle">{value:g} {unit}</text>')
        value += step
    return "\n".join(parts) + "\n</svg>\n"
