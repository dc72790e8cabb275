"""Charts as inline SVG. Colours are CSS classes, so that one drawing serves light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from medbench.reports.page import Chart, Series

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 42
ROW = 22
COLOURS = 6
# The first picture is drawn for a phone's width; its names stand above their rows, so it needs no room for them.
PANELS, PANEL_GAP, PANEL_ROW, _PANEL_SIDE = 400, 32, 38, 15
# Longer names stand above their row in the other charts, too.
_LABEL_CHARACTERS = 20
_LABEL_ABOVE = 56
# Widest usual character of the chart's text at its largest, on a phone; texts are laid out without measuring them.
_CHARACTER = 8.0


def draw(chart: Chart, identity: str) -> Markup:
    """One chart as an <svg> element with a title and a description for screen readers."""
    height, body = {"lines": _lines, "ranges": _ranges, "stack": _stack, "scatter": _scatter, "choice": _choice}[
        chart.kind
    ](chart)
    return Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{i}-t {i}-d" class="chart">'
        '<title id="{i}-t">{title}</title><desc id="{i}-d">{summary}</desc>{body}</svg>'
    ).format(
        w=PANELS if chart.kind == "choice" else WIDTH,
        h=height,
        i=identity,
        title=chart.title,
        summary=chart.summary,
        body=Markup("").join(body),
    )


class BarAxis:
    """The common axis of a table's intervals: round ticks that cover all of them."""

    def __init__(self, values: Sequence[float], percent: bool, mark: float | None = None) -> None:
        known = [v for v in (*values, *([mark] if mark is not None else [])) if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(known), max(known)
        if low == high:
            low, high = low - 0.05, high + 0.05
        self.ticks = ticks(low, high, 3)
        self.low, self.high = self.ticks[0], self.ticks[-1]
        self.percent, self.mark = percent, mark

    def _at(self, value: float) -> float:
        return 4 + 92 * (value - self.low) / (self.high - self.low)

    def _grid(self, height: int) -> Markup:
        lines = [
            Markup('<line class="axis" x1="{a:.1f}" x2="{a:.1f}" y1="0" y2="{h}"/>').format(a=self._at(t), h=height)
            for t in self.ticks
        ]
        if self.mark is not None:
            lines.append(
                Markup('<line class="reference" x1="{a:.1f}" x2="{a:.1f}" y1="0" y2="{h}"/>').format(
                    a=self._at(self.mark), h=height
                )
            )
        return Markup("").join(lines)

    def head(self) -> Markup:
        """The axis with its ticks' labels, for the column's heading."""
        # The ends are named, and the middle where there is room.
        shown = [self.ticks[0], *(self.ticks[1:-1] if len(self.ticks) == 3 else []), self.ticks[-1]]
        labels = []
        for tick in shown:
            anchor = "start" if tick == shown[0] else "end" if tick == shown[-1] else "middle"
            x = 0 if anchor == "start" else 100 if anchor == "end" else self._at(tick)
            text = f"{_number(100 * tick)}%" if self.percent else _number(tick)
            labels.append(Markup('<text x="{:.1f}" y="9" text-anchor="{}">{}</text>').format(x, anchor, text))
        return Markup('<svg class="bar head" viewBox="0 0 100 12" aria-hidden="true">{}</svg>').format(
            Markup("").join(labels)
        )

    def bar(self, low: float, estimate: float, high: float) -> Markup:
        """One interval on the axis."""
        return Markup(
            '<svg class="bar" viewBox="0 0 100 12" aria-hidden="true">{grid}'
            '<line class="span" x1="{a:.1f}" x2="{b:.1f}" y1="6" y2="6"/><circle cx="{c:.1f}" cy="6" r="3.2"/></svg>'
        ).format(grid=self._grid(12), a=self._at(low), b=self._at(high), c=self._at(estimate))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover low to high."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (step * f) <= about)
    first = math.floor(low / step + 1e-9)
    return [i * step for i in range(first, math.ceil(high / step - 1e-9) + 1)]


class _Scale:
    def __init__(self, values: Sequence[float], start: float, end: float, about: int = 5) -> None:
        known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(known), max(known)
        if low == high:
            low, high = low - 0.5, high + 0.5
        self.ticks = ticks(low, high, about)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def _number(value: float) -> str:
    return f"{value:.10g}".replace("-", "−") if abs(value) < 1e6 else f"{value:.3g}"


def _text(x: float, y: float, text: object, anchor: str = "start", kind: str = "tick") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, text)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _marker(x: float, y: float, index: int) -> Markup:
    """Shapes differ as well as colours, for those who do not tell the colours apart."""
    shape = index % 4
    kind = f"mark c{index % COLOURS}"
    if shape == 0:
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="{}"/>').format(x, y, kind)
    if shape == 1:
        return Markup('<rect x="{:.1f}" y="{:.1f}" width="7" height="7" class="{}"/>').format(x - 3.5, y - 3.5, kind)
    points = (
        [(x, y - 5), (x + 4.6, y + 3.4), (x - 4.6, y + 3.4)]
        if shape == 2
        else [(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)]
    )
    return Markup('<polygon points="{}" class="{}"/>').format(" ".join(f"{a:.1f},{b:.1f}" for a, b in points), kind)


_LEGEND_ROW, _LEGEND_CHARACTER = 18, 7.4


def _legend_places(series: Sequence[Series], bars: bool) -> list[tuple[str, float, int]]:
    """(name, x, row) of each entry: a new row where the next would not fit, long names cut in the middle."""
    if len(series) < 2:
        return []
    places, x, row = [], 8.0, 0
    for name in [*[one.name for one in series], *(["sum"] if bars else [])]:
        shown = _middle(name, int((WIDTH - 30) / _LEGEND_CHARACTER))
        width = 28 + _LEGEND_CHARACTER * len(shown)
        if x > 8 and x + width - 14 > WIDTH:
            x, row = 8.0, row + 1
        places.append((shown, x, row))
        x += width
    return places


def _legend_room(series: Sequence[Series], bars: bool = False) -> int:
    """The height that a legend takes beyond its first row."""
    return _LEGEND_ROW * max((row for _, _, row in _legend_places(series, bars)), default=0)


def _legend(series: Sequence[Series], y: float, bars: bool = False) -> list[Markup]:
    parts = []
    for index, (name, x, row) in enumerate(_legend_places(series, bars)):
        at = y + _LEGEND_ROW * row
        if index == len(series):
            parts.append(_line(x + 5, at - 11, x + 5, at + 2, "total"))
        else:
            parts.append(_swatch(x, at - 9, index) if bars else _marker(x + 5, at - 4, index))
        parts.append(_text(x + 14, at, name, kind="legend"))
    return parts


def _swatch(x: float, y: float, index: int) -> Markup:
    kind = f"part c{index % COLOURS}"
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="10" height="10" class="{}"/>').format(x, y, kind)


def _grid_y(scale: _Scale, left: float = LEFT) -> list[Markup]:
    parts = []
    for value in scale.ticks:
        parts.append(_line(left, scale(value), WIDTH - RIGHT, scale(value), "grid"))
        parts.append(_text(left - 6, scale(value) + 4, _number(value), "end"))
    return parts


def _grid_x(scale: _Scale, top: float, bottom: float) -> list[Markup]:
    parts = []
    for value in scale.ticks:
        parts.append(_line(scale(value), top, scale(value), bottom, "grid"))
        parts.append(_text(scale(value), bottom + 16, _number(value), "middle"))
    return parts


def _lines(chart: Chart) -> tuple[int, list[Markup]]:
    # The legend above, the unit of the axis below it: both fit a phone.
    more = _legend_room(chart.series)
    top, height = TOP + more + (38 if len(chart.series) > 1 else 20), HEIGHT + more
    xs = [float(x) for s in chart.series for x in s.x]
    ys = [y for s in chart.series for y in (*s.y, *s.low, *s.high)]
    x, y = _Scale(xs, LEFT, WIDTH - RIGHT), _Scale(ys, height - BOTTOM, top)
    parts = [*_legend(chart.series, TOP + 6), *_grid_y(y)]
    for value in x.ticks:
        parts.append(_text(x(value), height - BOTTOM + 16, _number(value), "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 6, chart.x_label, "middle", "label"))
    parts.append(_text(4, top - 12, chart.y_label, kind="label"))
    for index, one in enumerate(chart.series):
        if one.low and one.high:
            there = [(x(float(a)), y(b)) for a, b in zip(one.x, one.high, strict=True)]
            back = [(x(float(a)), y(b)) for a, b in zip(one.x, one.low, strict=True)]
            outline = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*there, *reversed(back)])
            parts.append(Markup('<polygon points="{}" class="band c{}"/>').format(outline, index % COLOURS))
    for index, one in enumerate(chart.series):
        points = [(x(float(a)), y(b)) for a, b in zip(one.x, one.y, strict=True)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(Markup('<polyline points="{}" class="line c{}"/>').format(path, index % COLOURS))
        # A loss curve of a thousand steps needs no marker at each.
        if len(points) <= 40:
            parts += [_marker(a, b, index) for a, b in points]
    return height, parts


def _short(label: str) -> str:
    return _middle(label, _LABEL_CHARACTERS)


class _Labels:
    """Where the names of a chart's rows stand: left of them, or above them where one is long."""

    def __init__(self, labels: Sequence[str]) -> None:
        longest = max((len(label) for label in labels), default=4)
        self.above = longest > _LABEL_CHARACTERS
        self.room = 10.0 if self.above else 14 + _CHARACTER * longest
        self.row = ROW + 16 if self.above else ROW

    def text(self, top: float, row: int, label: str) -> Markup:
        """The name of a row."""
        y = top + self.row * row + (13 if self.above else ROW / 2 + 4)
        x, anchor = (4.0, "start") if self.above else (self.room - 8, "end")
        return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="row">{}<title>{}</title></text>').format(
            x, y, anchor, _middle(label, _LABEL_ABOVE if self.above else _LABEL_CHARACTERS), label
        )

    def middle(self, top: float, row: int) -> float:
        """The height at which a row's marks stand."""
        return top + self.row * row + (16 if self.above else 0) + ROW / 2


def _ranges(chart: Chart) -> tuple[int, list[Markup]]:
    labels = list(dict.fromkeys(str(x) for s in chart.series for x in s.x))
    named = _Labels(labels)
    left, top = named.room, TOP + _legend_room(chart.series) + (20 if len(chart.series) > 1 else 0)
    bottom = top + named.row * len(labels)
    values = [v for s in chart.series for v in (*s.y, *s.low, *s.high)]
    x = _Scale([*values, *([chart.reference] if chart.reference is not None else [])], left, WIDTH - RIGHT)
    parts = [*_legend(chart.series, TOP + 6), *_grid_x(x, top, bottom)]
    if chart.reference is not None:
        parts.append(_line(x(chart.reference), top, x(chart.reference), bottom, "reference"))
    for row, label in enumerate(labels):
        parts.append(named.text(top, row, label))
    spread = min(6.0, ROW / (len(chart.series) + 1))
    for index, one in enumerate(chart.series):
        for k, where in enumerate(one.x):
            at = named.middle(top, labels.index(str(where))) + spread * (index - (len(chart.series) - 1) / 2)
            if one.low and math.isfinite(one.low[k]) and math.isfinite(one.high[k]):
                parts.append(_line(x(one.low[k]), at, x(one.high[k]), at, f"span c{index % COLOURS}"))
            if math.isfinite(one.y[k]):
                parts.append(_marker(x(one.y[k]), at, index))
    parts.append(_text((left + WIDTH - RIGHT) / 2, bottom + 34, chart.x_label, "middle", "label"))
    return int(bottom + BOTTOM), parts


def _stack(chart: Chart) -> tuple[int, list[Markup]]:
    labels = [str(x) for x in chart.series[0].x] if chart.series else []
    named = _Labels(labels)
    left, top = named.room, TOP + 20 + _legend_room(chart.series, bars=True)
    bottom = top + named.row * len(labels)
    rows = list(zip(*[s.y for s in chart.series], strict=True))
    ends = [sum(v for v in row if v > 0) for row in rows] + [sum(v for v in row if v < 0) for row in rows]
    x = _Scale([*ends, 0.0], left, WIDTH - RIGHT)
    parts = [*_legend(chart.series, TOP + 6, bars=True), *_grid_x(x, top, bottom)]
    for row, (label, values) in enumerate(zip(labels, rows, strict=True)):
        y = named.middle(top, row) - ROW / 2 + 4
        parts.append(named.text(top, row, label))
        ahead, behind = 0.0, 0.0
        for index, value in enumerate(values):
            start = ahead if value > 0 else behind
            a, b = sorted((x(start), x(start + value)))
            parts.append(
                Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" class="part c{}"/>').format(
                    a, y, max(b - a, 0.0), ROW - 8, index % COLOURS
                )
            )
            ahead, behind = (ahead + value, behind) if value > 0 else (ahead, behind + value)
        total = sum(values)
        parts.append(_line(x(total), y - 2, x(total), y + ROW - 6, "total"))
    parts.append(_line(x(0), top, x(0), bottom, "reference"))
    parts.append(_text((left + WIDTH - RIGHT) / 2, bottom + 34, chart.x_label, "middle", "label"))
    return int(bottom + BOTTOM), parts


# More crosses than this are numbered, with a key below: their names would cover each other.
_NAMED_CROSSES = 5


def _scatter(chart: Chart) -> tuple[int, list[Markup]]:
    x = _Scale([float(v) for s in chart.series for v in s.x], LEFT, WIDTH - RIGHT)
    y = _Scale([v for s in chart.series for v in (*s.y, *s.low, *s.high)], HEIGHT - BOTTOM, TOP + 14)
    parts = _grid_y(y)
    for value in x.ticks:
        parts.append(_text(x(value), HEIGHT - BOTTOM + 16, _number(value), "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, chart.x_label, "middle", "label"))
    parts.append(_text(6, TOP, chart.y_label, kind="label"))
    numbered = len(chart.series) > _NAMED_CROSSES
    labels: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for index, one in enumerate(chart.series):
        centre, low, high = (x(float(v)) for v in one.x)
        at = y(one.y[0])
        parts.append(_line(low, at, high, at, "span c0"))
        parts.append(_line(centre, y(one.low[0]), centre, y(one.high[0]), "span c0"))
        parts.append(_marker(centre, at, 0))
        label = str(index + 1) if numbered else _short(one.name)
        width = _CHARACTER * len(label)
        right = centre + 7 + width > WIDTH
        place = _free_place(centre + (-7 - width if right else 7), at - 7, width, taken)
        labels.append(_text(place[0], place[1], label, kind="point"))
    if not numbered:
        return HEIGHT, parts + labels
    columns = max(1, min(3, int(WIDTH // (_CHARACTER * (4 + max(len(_short(s.name)) for s in chart.series))))))
    for index, one in enumerate(chart.series):
        row, column = divmod(index, columns)
        labels.append(
            _text(8 + column * WIDTH / columns, HEIGHT + 16 + 17 * row, f"{index + 1}  {_short(one.name)}", kind="key")
        )
    return HEIGHT + 12 + 17 * math.ceil(len(chart.series) / columns), parts + labels


def _free_place(x: float, y: float, width: float, taken: list[tuple[float, float]]) -> tuple[float, float]:
    """The nearest place for a label at which it covers no other: upwards first, then downwards."""
    for step in (0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6):
        at = y + 12 * step
        free = all(abs(at - b) >= 11 or abs(x - a) >= width + 2 for a, b in taken)
        if free and TOP + 12 < at < HEIGHT - BOTTOM - 2:
            y = at
            break
    taken.append((x, y))
    return x, y


def _choice(chart: Chart) -> tuple[int, list[Markup]]:
    """A row per label with its name above, a panel per series; the best of each panel in another shape and colour."""
    labels = list(dict.fromkeys(str(x) for s in chart.series for x in s.x))
    count = len(chart.series)
    # Room on both sides for half of an axis label.
    wide = (PANELS - 2 * _PANEL_SIDE - PANEL_GAP * (count - 1)) / count
    top = 44
    bottom = top + PANEL_ROW * len(labels)
    # A rule above each name: a long one runs over both panels, and is the name of the row in both.
    parts = [_line(4, top + PANEL_ROW * row, PANELS - 4, top + PANEL_ROW * row, "grid") for row in range(len(labels))]
    for index, one in enumerate(chart.series):
        left = _PANEL_SIDE + index * (wide + PANEL_GAP)
        x = _Scale([*one.y, *one.low, *one.high, *one.marks], left, left + wide, 4)
        for line, text in enumerate(one.name.split("\n")):
            fitted = text if count == 1 else _fitting(text, wide + PANEL_GAP / 2)
            parts.append(_text(left - 4, 14 + 17 * line, fitted, kind="label" if line else "head"))
        parts += _grid_x(x, top, bottom)
        if one.mark_name:
            parts.append(_text(left - 4, bottom + 34, one.mark_name, "start", "label"))
        best = max(one.y, default=0.0)
        for k, where in enumerate(one.x):
            at = top + PANEL_ROW * labels.index(str(where)) + 28
            colour = 1 if one.y[k] == best else 0
            if math.isfinite(one.low[k]) and math.isfinite(one.high[k]):
                parts.append(_line(x(one.low[k]), at, x(one.high[k]), at, f"span c{colour}"))
            if one.marks and math.isfinite(one.marks[k]):
                parts.append(_line(x(one.marks[k]), at - 7, x(one.marks[k]), at + 7, "total"))
            parts.append(_marker(x(one.y[k]), at, colour))
    for row, label in enumerate(labels):
        at = top + PANEL_ROW * row + 16
        parts.append(
            Markup('<text x="4" y="{:.1f}" class="row">{}<title>{}</title></text>').format(
                at, _middle(label, int(PANELS / _CHARACTER)), label
            )
        )
    return int(bottom + 42), parts


def _fitting(text: str, wide: float) -> str:
    return _middle(text, int(wide / 8.6))


def _middle(text: str, most: int) -> str:
    """A long name without its middle: the ends tell one from another."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
