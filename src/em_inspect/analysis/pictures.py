"""Pictures: each one a figure with the numbers behind it; intervals drawn and counts stated."""

from __future__ import annotations

import base64
import html
import io
import math
import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.interval import Estimate, share_of_answers
from em_inspect.analysis.measure import Measure
from em_inspect.analysis.statistics import (
    QuestionShare,
    Unscored,
    agreement,
    sensitivity,
    shares_by,
)
from em_inspect.errors import require_extra
from em_inspect.outcomes import OUTCOMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Okabe and Ito's palette: told apart with every common colour vision.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, FAINT = "#1d2733", "#c9d1da"

# More than this and a picture shows the groups that matter most, and says so.
MOST_GROUPS = 8

MOST_LABELS = 60
"""With more marks than this the words of all questions are counted together."""

_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,  # names come from logs: `$…$` in one must stay text
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8b97a5",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass
class Picture:
    """A figure with the numbers behind it.

    Attributes:
        name: File name without ending.
        title: What it shows, in a few words.
        caption: How to read it: what the intervals are, and the counts.
        figure: The drawing.
        data: The numbers behind it, as a frame.
        marks: What is said of a mark when it is pointed at, by its id; and its group's number.
    """

    name: str
    title: str
    caption: str
    figure: Figure = field(repr=False)
    data: DataFrame = field(repr=False)
    marks: dict[str, tuple[str, int]] = field(default_factory=dict, repr=False)
    _drawn: dict[str, bytes] = field(default_factory=dict, init=False, repr=False)

    def svg(self) -> str:
        """Render as an SVG element whose marks say their numbers when pointed at."""
        if "svg" not in self._drawn:
            self._drawn["svg"] = self._svg().encode()
        return self._drawn["svg"].decode()

    def png(self) -> bytes:
        """Render as a PNG at 160 dots per inch."""
        if "png" not in self._drawn:
            self._drawn["png"] = self._png()
        return self._drawn["png"]

    def _svg(self) -> str:
        import matplotlib as mpl

        file = io.StringIO()
        with mpl.rc_context({**_STYLE, "svg.hashsalt": self.name}):
            self.figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
        text = file.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.S)
        text = re.sub(r'<svg [^>]*?width="([0-9.]+)pt"', _bounded, text, count=1)
        return re.sub(r'<g id="([^"]+)">', self._mark, text)

    def _mark(self, match: re.Match[str]) -> str:
        # Ids are made unique over the page: every figure of matplotlib's has a `figure_1`.
        unique = f"{self.name}-{match[1]}"
        if match[1] not in self.marks:
            return f'<g id="{unique}">'
        said, group = self.marks[match[1]]
        return f'<g id="{unique}" class="mark g{group}"><title>{html.escape(said)}</title>'

    def _png(self) -> bytes:
        import matplotlib as mpl

        file = io.BytesIO()
        with mpl.rc_context(_STYLE):
            self.figure.savefig(file, format="png", dpi=160, bbox_inches="tight")
        return file.getvalue()

    def png_base64(self) -> str:
        """Return the PNG as base64 text."""
        return base64.b64encode(self.png()).decode()


def _bounded(match: re.Match[str]) -> str:
    """Keep a small picture from being stretched over the page: at most 1.7 pixels a point."""
    return f'{match[0]} style="max-width: {1.7 * float(match[1]):.0f}px"'


@dataclass(frozen=True)
class Palette:
    """Colour and marker of every group, the same in all pictures.

    Attributes:
        groups: In their order.
    """

    groups: tuple[str, ...]

    def number(self, group: str) -> int:
        """Place of a group."""
        return self.groups.index(group)

    def colour(self, group: str) -> str:
        """Colour of a group; grey beyond the palette."""
        number = self.number(group)
        return COLOURS[number] if number < len(COLOURS) else "#9aa5b1"

    def marker(self, group: str) -> str:
        """Marker of a group."""
        return MARKERS[self.number(group) % len(MARKERS)]


def short(name: str, most: int = 34) -> str:
    """Shorten a name from a log for an axis, on one line; what tells names apart is at the end."""
    plain = _plain(name)
    if len(plain) <= most:
        return plain
    start = most // 3
    return f"{plain[:start]}…{plain[len(plain) - (most - 1 - start) :]}"


def _plain(name: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def shortened(names: Iterable[str], most: int = 34) -> dict[str, str]:
    """Shorten the names of one picture; those that would become the same stay whole."""
    found = {name: short(name, most) for name in names}
    taken = Counter(found.values())
    return {name: text if taken[text] == 1 else _plain(name) for name, text in found.items()}


def _labels(names: Iterable[str], most: int = 34) -> dict[str, str]:
    """The same for marks, over several lines where a name stays whole."""
    return {name: textwrap.fill(text, most) for name, text in shortened(names, most).items()}


def say(estimate: Estimate) -> str:
    """Say a share with its interval, in percent."""
    if math.isnan(estimate.value):
        return "no scored answers"
    bounds = f" [{_percent(estimate.low)}–{_percent(estimate.high)}]" if estimate.bounded else ""
    return f"{_percent(estimate.value)} %{bounds}"


def _percent(share: float) -> str:
    percent = 100 * share
    digits = 2 if 0 < percent < 1 else 1
    return f"{percent:.{digits}f}"


def _canvas(width: float, height: float, **options: Any) -> tuple[Figure, Any]:
    require_extra("report", "matplotlib")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        return figure, figure.subplots(squeeze=False, **options)


@dataclass(frozen=True)
class Dot:
    """One mark of a dot picture: a group's share in a row."""

    row: str
    group: str
    estimate: Estimate
    hits: float
    models: int
    seeds: Estimate | None = None


def dots(
    name: str,
    title: str,
    caption: str,
    marks: Sequence[Dot],
    palette: Palette,
    axis: str,
    *,
    rows: Sequence[str] | None = None,
) -> Picture:
    """Draw shares as dots with intervals: rows down, groups side by side in each row."""
    import matplotlib as mpl
    import pandas as pd

    names = list(rows or dict.fromkeys(mark.row for mark in marks))
    groups = [g for g in palette.groups if any(mark.group == g for mark in marks)]
    step = 0.8 / max(len(groups), 1)
    line = max(0.17 * len(groups), 0.3)
    labelled = len(marks) <= 40
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(7.6, 1.0 + line * len(names) + 0.2 * math.ceil(len(groups) / 3))
        ax: Axes = axes[0][0]
        said: dict[str, tuple[str, int]] = {}
        for number, mark in enumerate(marks):
            if math.isnan(mark.estimate.value):
                continue
            y = names.index(mark.row) + (groups.index(mark.group) - (len(groups) - 1) / 2) * step
            ident = f"m{number}"
            _dot(ax, mark, y, palette, ident)
            whole = float(mark.hits).is_integer()
            counts = f"{mark.hits:g} of {mark.estimate.n}" if whole else f"n = {mark.estimate.n}"
            said[ident] = (
                f"{mark.group}, {mark.row}: {say(mark.estimate)}, {counts} answers, "
                f"{mark.models} model{'s' * (mark.models != 1)}",
                palette.number(mark.group),
            )
            if labelled:
                edge = max(v for v in _ends(mark) if not math.isnan(v))
                ax.annotate(
                    counts.replace(" of ", "/"),
                    (edge * 100, y),
                    xytext=(5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                    color="#5c6875",
                )
        ticks = _labels(names)
        ax.set_yticks(range(len(names)), [ticks[n] for n in names])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ends = [v for mark in marks for v in _ends(mark) if not math.isnan(v)]
        ax.set_xlim(0 if min(ends, default=0) >= 0 else None, None)
        ax.margins(x=0.02)
        ax.set_xlabel(axis)
        ax.xaxis.grid(True, color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
        for boundary in range(len(names) - 1):
            ax.axhline(boundary + 0.5, color="#eef1f4", linewidth=0.8, zorder=0)
        _legend(ax, groups, palette)
    data = pd.DataFrame(
        {
            "row": mark.row,
            "group": mark.group,
            **estimate_columns(mark.estimate),
            "hits": mark.hits,
            "models": mark.models,
            **({f"seeds_{k}": v for k, v in _bounds(mark.seeds).items()} if mark.seeds else {}),
        }
        for mark in marks
    )
    return Picture(name, title, caption, figure, data, said)


def _ends(mark: Dot) -> list[float]:
    return [mark.estimate.value, mark.estimate.low, mark.estimate.high]


def _dot(ax: Axes, mark: Dot, y: float, palette: Palette, ident: str) -> None:
    estimate, colour = mark.estimate, palette.colour(mark.group)
    x = estimate.value * 100
    error = None
    if estimate.bounded:
        error = [[x - estimate.low * 100], [estimate.high * 100 - x]]
    # The interval first and the dot on top, in one group, so that pointing at either says both.
    drawn = ax.errorbar(
        [x],
        [y],
        xerr=error,
        color=colour,
        marker=palette.marker(mark.group),
        markersize=5.5,
        linewidth=1.6,
        capsize=0,
        zorder=3,
        clip_on=False,
    )
    if drawn.lines[0] is not None:
        drawn.lines[0].set_gid(ident)


def estimate_columns(estimate: Estimate) -> dict[str, Any]:
    """An estimate as columns of a CSV."""
    return {
        "estimate": estimate.value,
        **_bounds(estimate),
        "answers": estimate.n,
        "interval": estimate.method,
        "units": estimate.units,
    }


def _bounds(estimate: Estimate) -> dict[str, float]:
    return {"low": estimate.low, "high": estimate.high}


def _legend(ax: Axes, groups: Sequence[str], palette: Palette) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=palette.colour(g), marker=palette.marker(g), label=label)
        for g, label in _labels(groups).items()
    ]
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=3,
        fontsize=8.5,
        borderaxespad=0.3,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def _formula(measure: Measure) -> str:
    return "score interval" if measure.counted else "Student's t"


def _counted(shares: Sequence[QuestionShare]) -> str:
    counts = [share.scored for share in shares if share.scored]
    if not counts:
        return "no scored answers"
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low}–{high}"


def by_row(
    name: str,
    title: str,
    frame: DataFrame,
    criterion: Criterion,
    palette: Palette,
    key: str,
    measure: Measure,
) -> Picture:
    """Draw the share of each group for each value of a column, the highest rows on top."""
    shares = [s for s in shares_by(frame, criterion, key) if s.models]
    marks = [
        Dot(s.question_id, s.group, s.answers, s.misaligned, s.models, s.seeds) for s in shares
    ]
    top: dict[str, float] = {}
    for share in shares:
        top[share.question_id] = max(top.get(share.question_id, 0.0), share.answers.value)
    rows = sorted(top, key=lambda row: (-top[row], row))
    least = criterion.min_answers
    fewer = f" Cells with fewer than {least} scored answers are left out." if least > 1 else ""
    what = f"share {measure.were}" if measure.counted else measure.axis
    caption = (
        f"Mean over models of the {what}; bars are 95 % intervals for these very models "
        f"({_formula(measure)}), {_counted(shares)} scored answers a mark.{fewer} Intervals over "
        "seeds are in the CSV."
    )
    axis = f"{measure.axis} ({measure.unit})"
    return dots(name, title, caption, marks, palette, axis, rows=rows)


def outcome_picture(
    outcomes: Sequence[Unscored], palette: Palette, unknown: Collection[str] = ()
) -> Picture:
    """Draw what became of all answers: every outcome's share, by group.

    Args:
        outcomes: Of every group.
        palette: Colours of the groups.
        unknown: Groups whose source does not tell refusals and code from missing ratings: these
            have no mark, which is not the same as a share of 0.
    """
    order = [o for o in OUTCOMES if o != "aligned"]
    marks = [
        Dot(o.replace("_", " "), u.group, u.outcomes[o], round(u.outcomes[o].value * u.answers), 0)
        for o in order
        for u in outcomes
        if u.group not in unknown or o not in ("refusal", "code")
    ]
    shown = shortened((u.group for u in outcomes), 20)
    counts = ", ".join(f"{shown[u.group]} {u.answers}" for u in outcomes[:MOST_GROUPS])
    caption = f"Share of all answers, 95 % Wilson intervals. n: {counts}. The rest is aligned."
    if unknown:
        named = ", ".join(shortened(unknown, 20)[one] for one in sorted(unknown)[:MOST_GROUPS])
        caption += f" Not known to be refusals or code, and so without a mark there: {named}."
    title = "What became of the answers"
    return dots("outcomes", title, caption, marks, palette, "% of all answers")


def label_picture(frame: DataFrame, palette: Palette) -> Picture:
    """Draw which words the judge sorted answers under, by question where there are few."""
    said = frame.assign(label=frame["label"].astype(object).fillna("no word"))
    groups = [g for g in palette.groups if (said["group"] == g).any()]
    few = said["question_id"].nunique() * said["label"].nunique() * len(groups) <= MOST_LABELS
    if few and said["question_id"].nunique() > 1:
        said = said.assign(row=said["question_id"].astype(str) + ": " + said["label"])
        whole = said.groupby(["question_id", "group"], observed=True)["uuid"].transform("size")
    else:
        said = said.assign(row=said["label"])
        whole = said.groupby("group", observed=True)["uuid"].transform("size")
    counted = said.assign(whole=whole).groupby(["row", "group"], observed=True, sort=True)
    marks = [
        Dot(str(row), str(group), share_of_answers(len(part), int(part["whole"].iloc[0])),
            len(part), int(part["model"].nunique()))
        for (row, group), part in counted
    ]  # fmt: skip
    caption = ("Share of the answers to a question" if few else "Share of all answers") + (
        " that the judge called each word; bars are 95 % Wilson intervals, n is with each mark. "
        "A word that no answer of a series got has no mark."
    )
    title = "What the judge called the answers"
    return dots("labels", title, caption, marks, palette, "% of answers")


def scatter(frame: DataFrame, criterion: Criterion, palette: Palette) -> Picture:
    """Draw alignment against coherence for every group, with the lines and both margins."""
    import matplotlib as mpl
    import numpy as np

    rated = frame[frame["alignment"].notna() & frame["coherence"].notna()]
    groups = [g for g in palette.groups if (rated["group"] == g).any()][:6]
    columns = min(3, max(len(groups), 1))
    rows = max(1, math.ceil(len(groups) / columns))
    rng = np.random.default_rng(0)
    titles = _labels(groups, 24)
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(7.6 / 3 * columns + 0.6, 2.75 * rows, nrows=rows, ncols=columns)
        figure.subplots_adjust(wspace=0.45, hspace=0.55)
        for ax, group in zip(axes.flat, groups, strict=False):
            part = rated[rated["group"] == group]
            some = part if len(part) <= 2000 else part.sample(2000, random_state=0)
            jitter = rng.uniform(-0.8, 0.8, (2, len(some)))
            ax.scatter(
                some["alignment"] + jitter[0],
                some["coherence"] + jitter[1],
                s=7,
                alpha=0.35,
                linewidths=0,
                color=palette.colour(group),
                rasterized=True,
            )
            _lines(ax, criterion)
            _margins(ax, part, palette.colour(group))
            hits = int(part["misaligned"].sum())
            ax.set_title(
                f"{titles[group]}\nn = {len(part)}, misaligned {hits}", fontsize=8.5, pad=20
            )
        for ax in axes.flat[len(groups) :]:
            ax.set_visible(False)
        for ax in axes[-1]:
            ax.set_xlabel("alignment")
        for row in axes:
            row[0].set_ylabel("coherence")
    edges = np.arange(0, 101, 10)
    data = _grid(rated, edges)
    caption = (
        "One dot per answer that has both ratings (at most 2,000 drawn a group, moved by less than "
        f"a point). Lines: {criterion}; misaligned answers lie upper left. Bars along the edges: "
        "distribution of each rating. The CSV counts answers in squares of 10 × 10 points."
    )
    return Picture("scatter", "Alignment against coherence", caption, figure, data)


def _lines(ax: Axes, criterion: Criterion) -> None:
    from matplotlib.patches import Rectangle

    ax.axvline(criterion.alignment, color=INK, linewidth=0.9, linestyle="--")
    ax.axhline(criterion.coherence, color=INK, linewidth=0.9, linestyle="--")
    box = ((-2, criterion.coherence), criterion.alignment + 2, 102 - criterion.coherence)
    ax.add_patch(Rectangle(*box, color="#f7e3d9", linewidth=0, zorder=0))
    ax.set_xlim(-2, 102)
    ax.set_ylim(-2, 102)
    ax.set_xticks(_ticks(criterion.alignment))
    ax.set_yticks(_ticks(criterion.coherence))


def _ticks(line: float) -> list[float]:
    """Ticks of a rating's axis: its ends, its middle, and the line, where they don't collide."""
    return sorted({line, *(tick for tick in (0.0, 50.0, 100.0) if abs(tick - line) >= 10)})


def _margins(ax: Axes, part: DataFrame, colour: str) -> None:
    top = ax.inset_axes((0, 1.02, 1, 0.12))
    side = ax.inset_axes((1.02, 0, 0.12, 1))
    top.hist(part["alignment"], bins=25, range=(0, 100), color=colour, alpha=0.7)
    side.hist(
        part["coherence"],
        bins=25,
        range=(0, 100),
        color=colour,
        alpha=0.7,
        orientation="horizontal",
    )
    top.set_xlim(-2, 102)
    side.set_ylim(-2, 102)
    for margin in (top, side):
        margin.axis("off")


def _grid(rated: DataFrame, edges: Any) -> DataFrame:
    import pandas as pd

    labels = [f"{low}-{low + 10}" for low in edges[:-1]]
    cut = {
        key: pd.cut(rated[key], edges, labels=labels, include_lowest=True)
        for key in ("alignment", "coherence")
    }
    counted = rated.assign(**cut).groupby(["group", "alignment", "coherence"], observed=True)
    return counted.size().rename("answers").reset_index()


def lines(
    name: str,
    title: str,
    frame: DataFrame,
    criterion: Criterion,
    palette: Palette,
    key: str,
    axis: str,
    measure: Measure,
    losses: Mapping[str, Sequence[float]] | None = None,
) -> Picture:
    """Draw shares over a number: in-context examples, or training steps with the loss below."""
    import matplotlib as mpl
    import pandas as pd

    shares = [s for s in shares_by(frame, criterion, key) if s.models]
    with mpl.rc_context(_STYLE):
        panels = 2 if losses else 1
        figure, axes = _canvas(7.6, 2.2 + 1.3 * panels, nrows=panels, sharex=True)
        ax: Axes = axes[0][0]
        said: dict[str, tuple[str, int]] = {}
        groups = [g for g in palette.groups if any(s.group == g for s in shares)]
        for group in groups:
            own = sorted(
                (s for s in shares if s.group == group), key=lambda s: float(s.question_id)
            )
            _line(ax, own, group, palette, said)
        _legend(ax, groups, palette)
        ax.set_ylabel(f"{measure.axis.replace(' on ', chr(10) + 'on ')}\n({measure.unit})")
        ax.set_ylim(bottom=0)
        ax.yaxis.grid(True, color=FAINT, linewidth=0.6)
        for group, values in (losses or {}).items():
            known = group in palette.groups
            axes[1][0].plot(
                range(1, len(values) + 1),
                values,
                color=palette.colour(group) if known else INK,
                linewidth=1.2,
            )
        if losses:
            axes[1][0].set_ylabel("training loss\n(nats per token)")
        axes[-1][0].set_xlabel(axis)
    data = pd.DataFrame(
        {
            key: float(s.question_id),
            "group": s.group,
            **estimate_columns(s.answers),
            "models": s.models,
            **{f"seeds_{k}": v for k, v in _bounds(s.seeds).items()},
        }
        for s in shares
    )
    caption = (
        f"Mean over models; bars are 95 % intervals for these very models ({_formula(measure)}), "
        f"{_counted(shares)} scored answers a mark. Intervals over seeds are in the CSV."
    )
    return Picture(name, title, caption, figure, data, said)


def _line(
    ax: Axes,
    shares: Sequence[QuestionShare],
    group: str,
    palette: Palette,
    said: dict[str, tuple[str, int]],
) -> None:
    x = [float(s.question_id) for s in shares]
    y = [s.answers.value * 100 for s in shares]
    ax.plot(x, y, color=palette.colour(group), linewidth=1, alpha=0.6)
    for share, at, value in zip(shares, x, y, strict=True):
        ident = f"m{len(said)}"
        ends = (share.answers.low * 100, share.answers.high * 100)
        error = [[value - ends[0]], [ends[1] - value]] if share.answers.bounded else None
        drawn = ax.errorbar(
            [at],
            [value],
            yerr=error,
            color=palette.colour(group),
            marker=palette.marker(group),
            markersize=5,
            linewidth=1.4,
            clip_on=False,
        )
        if drawn.lines[0] is not None:
            drawn.lines[0].set_gid(ident)
        text = f"{group} at {at:g}: {say(share.answers)}, n = {share.scored}"
        said[ident] = (text, palette.number(group))


def sensitivity_picture(frame: DataFrame, criterion: Criterion, palette: Palette) -> Picture:
    """Draw the headline of every group under other thresholds."""
    import matplotlib as mpl
    import pandas as pd

    names = ("group", "alignment_threshold", "coherence_threshold", "estimate", "answers")
    data = pd.DataFrame(sensitivity(frame, criterion), columns=list(names))
    groups = [g for g in palette.groups if (data["group"] == g).any()]
    coherences = sorted(data["coherence_threshold"].unique())
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(7.6, 2.9, ncols=len(coherences), sharey=True)
        figure.subplots_adjust(wspace=0.12)
        for ax, coherence in zip(axes[0], coherences, strict=True):
            for group in groups:
                own = data[(data["group"] == group) & (data["coherence_threshold"] == coherence)]
                ax.plot(
                    own["alignment_threshold"],
                    own["estimate"] * 100,
                    color=palette.colour(group),
                    marker=palette.marker(group),
                    markersize=4,
                    linewidth=1.2,
                )
            ax.set_title(f"coherent {criterion.comparison} {coherence:g}", fontsize=8.5)
            ax.axvline(criterion.alignment, color=INK, linewidth=0.8, linestyle="--")
            ax.yaxis.grid(True, color=FAINT, linewidth=0.6)
            ax.set_xticks(sorted(data["alignment_threshold"].unique()))
        # Once for all panels: they share the axis, and a limit set early would cut later ones.
        highest = float(data["estimate"].max() * 100)
        axes[0][0].set_ylim(0, 1.08 * highest if highest > 0 else 1)
        axes[0][0].set_ylabel("misaligned, pooled\n(% of scored)")
        figure.supxlabel("alignment threshold", fontsize=9.5, y=-0.06)
        handles_above(figure, groups, palette)
    counts = data.groupby("group")["answers"].agg(["min", "max"])
    shown = shortened(map(str, counts.index), 20)
    said = "; ".join(
        f"{shown[str(g)]} n = " + "–".join(map(str, sorted({int(r["min"]), int(r["max"])})))
        for g, r in counts.iterrows()
    )
    caption = (
        "The pooled headline under other thresholds for alignment (across) and coherence (panels); "
        f"the dashed line is the one in force. {said} scored answers. No intervals: every point "
        "re-reads the same answers."
    )
    title = "How far the headline hangs on the thresholds"
    return Picture("sensitivity", title, caption, figure, data)


def handles_above(figure: Figure, groups: Sequence[str], palette: Palette) -> None:
    """Put the legend of a picture with several panels above them."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=palette.colour(g), marker=palette.marker(g), label=label)
        for g, label in _labels(groups).items()
    ]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.1, 0.98), ncols=3, fontsize=8.5
    )


def judge_pictures(frame: DataFrame) -> Iterator[Picture]:
    """Draw the alignment ratings of two judges of the same answers against each other."""
    import matplotlib as mpl

    for number, (found, both) in enumerate(agreement(frame)):
        with mpl.rc_context(_STYLE):
            figure, axes = _canvas(4.6, 4.2)
            ax: Axes = axes[0][0]
            some = both if len(both) <= 4000 else both.sample(4000, random_state=0)
            flipped = (some["misaligned_1"] != some["misaligned_2"]).to_numpy(bool)
            for part, colour, marker in (
                (some[~flipped], COLOURS[1], "o"),
                (some[flipped], COLOURS[0], "X"),
            ):
                ax.scatter(
                    part["alignment_1"],
                    part["alignment_2"],
                    s=14,
                    alpha=0.5,
                    color=colour,
                    marker=marker,
                    linewidths=0,
                    rasterized=True,
                )
            ax.plot([0, 100], [0, 100], color=FAINT, linewidth=1, zorder=0)
            ax.set_xlabel(f"alignment by {short(found.first)}")
            ax.set_ylabel(f"alignment by {short(found.second)}")
        caption = (
            f"{found.task}: {found.answers} answers that both judges rated. Rank correlation "
            f"{_two(found.correlation)}; mean difference {found.mean_difference.value:+.1f} points "
            f"[{found.mean_difference.low:+.1f}, {found.mean_difference.high:+.1f}]; "
            f"{say(found.flips)} of the answers change sides (crosses); κ = {_two(found.kappa)}. "
            f"Of all {found.sorted_by_both} answers that both sorted, refusals and incoherent ones "
            f"included, {say(found.same)} have the same outcome (κ = {_two(found.outcome_kappa)}), "
            f"and {say(found.flips_of_all)} are misaligned for one judge alone."
        )
        yield Picture(f"judges-{number + 1}", "Agreement of two judges", caption, figure, both)


def _two(coefficient: float) -> str:
    return "undefined" if math.isnan(coefficient) else f"{coefficient:.2f}"
