"""The table of outcomes: one row per model, shares with intervals, for the terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from em_inspect.analysis.answer import Answer, gathered
from em_inspect.analysis.interval import (
    Estimate,
    clustered,
    mean_of,
    mean_share,
    share_of_answers,
)
from em_inspect.analysis.logs import find_logs, open_logs, read_answers
from em_inspect.analysis.measure import Measure, measure_of
from em_inspect.analysis.origin import BASE_GROUP
from em_inspect.analysis.series import PLAIN, SEPARATOR, Asked, Sent, Series, series_of
from em_inspect.analysis.yardstick import judge_name
from em_inspect.judging.expectation import Reading
from em_inspect.metrics import MIN_ANSWERS
from em_inspect.outcomes import Outcome, Thresholds, outcome

FEW = 3
"""Up to so many models stand side by side, with their measures below one another."""

_COLUMNS = (
    "answers",
    "misaligned, pooled",
    "misaligned, by question",
    "mean alignment",
    "mean coherence",
    "coherent",
    "refusal",
    "code",
    "judge failed",
)

_SHARES: tuple[tuple[str, Outcome], ...] = (
    ("refusal", "refusal"),
    ("code", "code"),
    ("judge failed", "judge_failed"),
)


def outcome_table(paths: Sequence[str | Path], thresholds: Thresholds | None = None) -> Table:
    """Tabulate what became of the answers in logs, one row per model and condition.

    Tasks with a measure of their own, e.g. multiple choice, have a row or a column each, after the
    rated answers. Answers rated with other questions, rubrics, judges or rules stand in a section
    of their own.
    Intervals are 95 %: the score interval for shares, Student's t for mean ratings. They are about
    these very models and questions, and say nothing of other seeds; those of mean probabilities,
    Student's t, are about other items. By question, a (model, question) with fewer than 5 scored
    answers is left out, as in the report.

    Args:
        paths: Logs, or folders of logs.
        thresholds: Where the lines are drawn (the paper's by default).

    Raises:
        UserError: If there is no log, or SciPy (extra `report`) is missing.
    """
    logs = open_logs(find_logs(paths))
    rows: dict[tuple[str, ...], dict[str, list[Answer]]] = {}
    others: dict[tuple[str, ...], dict[str, list[Answer]]] = {}
    for section, answers in _sections(read_answers(logs)).items():
        rated = answers[0].measure == "misaligned"
        (rows if rated else others)[section] = _by_label(answers)
    drawn = thresholds or Thresholds()
    sections: dict[tuple[str, ...], dict[str, list[str | Text]]] = {
        section: {m: [str(len(a)), *_cells(a, drawn)] for m, a in _bases_first(models)}
        for section, models in rows.items()
    }
    more = _more(others)
    few = (
        len(sections) <= 1
        and len({m for s in (*rows.values(), *others.values()) for m in s}) <= FEW
    )
    table = _upright(sections, more) if few else _flat(sections, more)
    described = _described({**rows, **others})
    if len(sections) > 1:
        described[: len(rows)] = [f"section · {said}" for said in described[: len(rows)]]
    notes = [*_dashes(rows, drawn), *_few(rows, drawn)]
    notes += [str(problem) for problem in gathered(logs.problems)]
    table.caption = Text("\n".join([*described, *notes] or ["no answers to count"]))
    table.caption_justify = "left"
    return table


def _sections(answers: Iterable[Answer]) -> dict[tuple[str, ...], list[Answer]]:
    """Answers by what they were measured with."""
    found: dict[tuple[str, ...], list[Answer]] = defaultdict(list)
    for answer in answers:
        found[_section(answer)].append(answer)
    return found


def _by_label(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """Answers by their model and the condition they were given under, as the report has them."""
    asked = [_asked(answer) for answer in answers]
    sent = {Sent(*(getattr(answer, name) for name in Sent._fields)) for answer in answers}
    series = series_of(asked, sent)
    keys: dict[tuple[str, Series], list[Answer]] = defaultdict(list)
    for answer, unit in zip(answers, asked, strict=True):
        keys[answer.model, series[unit]].append(answer)
    found: dict[str, list[Answer]] = {}
    for (model, one), own in keys.items():
        # A checkpoint's step and strength are in the name of its model.
        words = (word for name, word in one.words if name not in ("step", "scale"))
        label = SEPARATOR.join([model, *words])
        while label in found:
            label += "'"
        found[label] = own
    return found


def _asked(answer: Answer) -> Asked:
    named = {name: getattr(answer, name) for name in Asked._fields}
    return Asked(**named | {"format": None if answer.format in PLAIN else answer.format})


def _bases_first(models: Mapping[str, list[Answer]]) -> list[tuple[str, list[Answer]]]:
    return sorted(models.items(), key=lambda item: (item[1][0].group != BASE_GROUP, item[0]))


def _more(
    others: Mapping[tuple[str, ...], Mapping[str, list[Answer]]],
) -> dict[str, dict[str, Text]]:
    """The tasks with a measure of their own: its share or mean by model, under a name for it."""
    found: dict[str, dict[str, Text]] = {}
    for section, models in others.items():
        values = [a.value for answers in models.values() for a in answers if a.value == a.value]
        measure = measure_of(section[-1], counted=set(values) <= {0.0, 1.0})
        name = f"{section[0]}: {measure.axis}"
        while name in found:
            name += " (another yardstick)"
        found[name] = {
            model: _percent(_mean(answers, measure)) for model, answers in _bases_first(models)
        }
    return found


def _mean(answers: Sequence[Answer], measure: Measure) -> Estimate:
    scored = [answer for answer in answers if answer.value == answer.value]
    if measure.counted:
        return share_of_answers(round(sum(a.value for a in scored)), len(scored))
    by_question: dict[str, list[float]] = defaultdict(list)
    for answer in scored:
        by_question[answer.question_id].append(answer.value)
    # Read from probabilities, an item's orders are no random draws: only other items are.
    sums = [sum(values) for values in by_question.values()]
    return clustered(sums, [len(v) for v in by_question.values()], "questions", counted=False)


def _dashes(
    rows: Mapping[tuple[str, ...], Mapping[str, Sequence[Answer]]], drawn: Thresholds
) -> Iterable[str]:
    """Say why a model has no share."""
    for models in rows.values():
        for model, answers in models.items():
            fates = Counter(fate(answer, drawn) for answer in answers)
            if not fates["misaligned"] + fates["aligned"]:
                why = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in fates.most_common())
                yield f"– {model}: no answer was both coherent and rated ({why}), so no share"


def _few(
    rows: Mapping[tuple[str, ...], Mapping[str, Sequence[Answer]]], drawn: Thresholds
) -> Iterable[str]:
    """Say which questions are left out of the shares by question, as in the report."""
    for models in rows.values():
        for model, answers in models.items():
            asked = dict.fromkeys(a.question_id for a in answers)
            scored = Counter(
                a.question_id for a in answers if fate(a, drawn) in ("misaligned", "aligned")
            )
            few = [f"{q} ({scored[q]})" for q in asked if scored[q] < MIN_ANSWERS]
            if few and sum(scored.values()):
                more = f" and {len(few) - 4} more" if len(few) > 4 else ""
                yield (
                    f"{model}: with fewer than {MIN_ANSWERS} scored answers, not in the share by "
                    f"question: {', '.join(few[:4])}{more}"
                )


def _upright(
    sections: Mapping[tuple[str, ...], Mapping[str, Sequence[str | Text]]],
    more: Mapping[str, Mapping[str, Text]],
) -> Table:
    """Measures down, models across: a narrow terminal holds a base and its fine-tunes."""
    rated = next(iter(sections.values()), {})
    models = list(dict.fromkeys([*rated, *(m for row in more.values() for m in row)]))
    table = Table("")
    for model in models:
        table.add_column(Text(model), overflow="fold")
    for number, name in enumerate(_COLUMNS if rated else ()):
        table.add_row(name, *(_on_one_line(rated[m][number]) if m in rated else "" for m in models))
    if rated and more:
        table.add_section()
    for name, row in more.items():
        table.add_row(Text(name), *(_on_one_line(row[m]) if m in row else "" for m in models))
    return table


def _flat(
    sections: Mapping[tuple[str, ...], Mapping[str, Sequence[str | Text]]],
    more: Mapping[str, Mapping[str, Text]],
) -> Table:
    """Models down, measures across; tasks with a measure of their own below, by their names."""
    table = Table("model")
    for name in _COLUMNS if sections else ("answers", "share or mean"):
        table.add_column(name.replace(" ", "\n", 1), justify="right", min_width=9)
    for models in sections.values():
        for model, cells in models.items():
            table.add_row(Text(model, overflow="fold"), *cells)
        table.add_section()
    for name, row in more.items():
        table.add_row(Text(name, style="bold", overflow="fold"))
        for model, cell in row.items():
            table.add_row(Text(model, overflow="fold"), "", cell)
        table.add_section()
    return table


def _on_one_line(cell: str | Text) -> str | Text:
    if isinstance(cell, str):
        return cell
    value, *bounds = cell.split("\n")
    return Text.assemble(value, "  ", *bounds)


def _section(answer: Answer) -> tuple[str, ...]:
    return (
        answer.task,
        answer.fingerprint,
        answer.judge,
        answer.judge_id,
        answer.estimator,
        answer.rule,
        answer.measure,
    )


def _described(sections: Mapping[tuple[str, ...], Mapping[str, Sequence[Answer]]]) -> list[str]:
    """What each section was measured with, judges of one name told apart."""
    names = Counter(judge for judge, _ in {key[2:4] for key in sections})
    found = []
    for (task, fingerprint, judge, judge_id, estimator, rule, _), models in sections.items():
        read = f" ({estimator}, {rule})" if rule != "none" else ""
        shown = judge if names[judge] == 1 else judge_name(judge, judge_id)
        judged = "no judge" if judge == "none" else f"judge {shown}{read}"
        source = min((a.source for answers in models.values() for a in answers), key=len)
        found.append(f"{task}: questions {source} ({fingerprint}), {judged}")
    return found


def _cells(answers: Sequence[Answer], thresholds: Thresholds) -> Iterable[Text]:
    fates = [fate(answer, thresholds) for answer in answers]
    scored, hits = Counter[str](), Counter[str]()
    for answer, found in zip(answers, fates, strict=True):
        scored[answer.question_id] += found in ("misaligned", "aligned")
        hits[answer.question_id] += found == "misaligned"
    rated = [a.coherence for a in answers if a.coherence == a.coherence]
    yield _percent(share_of_answers(sum(hits.values()), sum(scored.values())))
    counted = [q for q, n in scored.items() if n >= MIN_ANSWERS]
    yield _percent(mean_share([hits[q] for q in counted], [scored[q] for q in counted]))
    yield _points(mean_of([answer.alignment for answer in answers]))
    yield _points(mean_of([answer.coherence for answer in answers]))
    yield _percent(share_of_answers(sum(c >= thresholds.coherence for c in rated), len(rated)))
    for _, name in _SHARES:
        yield _percent(share_of_answers(fates.count(name), len(answers)))


def fate(answer: Answer, thresholds: Thresholds) -> Outcome:
    """Return the outcome of an answer under given thresholds."""
    return outcome(
        Reading(_score(answer.alignment), answer.alignment_mass, word=answer.word),
        Reading(_score(answer.coherence), answer.coherence_mass),
        thresholds,
    )


def _score(value: float) -> float | None:
    return value if value == value else None


def _percent(estimate: Estimate) -> Text:
    return _cell(estimate, 100, 1, " %")


def _points(estimate: Estimate) -> Text:
    return _cell(estimate, 1, 0, "")


def _cell(estimate: Estimate, scale: float, digits: int, unit: str) -> Text:
    if estimate.value != estimate.value:
        return Text("–")
    cell = Text(f"{estimate.value * scale:.{digits}f}{unit}")
    if estimate.bounded:
        bounds = f"{estimate.low * scale:.{digits}f}–{estimate.high * scale:.{digits}f}"
        cell.append(f"\n{bounds}", style="dim")
    return cell
