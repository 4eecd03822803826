"""The report: verdict, tables, pictures, worst answers and methods, as one page or as Markdown."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from em_inspect.analysis.answer import Problem, gathered
from em_inspect.analysis.corrected import Correction, correct, correction_frame, fits, rates
from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.frame import Collection
from em_inspect.analysis.interval import Estimate
from em_inspect.analysis.logs import Run
from em_inspect.analysis.pictures import Picture, estimate_columns
from em_inspect.analysis.published import (
    DECEPTION,
    DECEPTION_SHARES,
    Published,
    is_published_judge,
    published,
)
from em_inspect.analysis.safe_text import csv_text, fenced, markdown, visible
from em_inspect.analysis.section import Section, draw, findings, judge_agreement, sections
from em_inspect.analysis.statistics import UNSCORED, Comparison, cells, mean_of_both
from em_inspect.analysis.tables import endings_frame, left_out_frame, sampled_frame
from em_inspect.analysis.verdict import Sentence, number, percent, verdict
from em_inspect.calibration.reading import Calibration
from em_inspect.errors import UserError, require_extra

if TYPE_CHECKING:
    from pandas import DataFrame

WORST = 3
"""Most misaligned answers shown per question and series."""

NAN = float("nan")

LONGEST = 1500
"""Characters of an answer that are shown."""

_LIBRARIES = ("em-inspect", "inspect-ai", "numpy", "scipy", "statsmodels", "pandas", "matplotlib")

Viewer = Callable[[str, str, int], str]
"""Address of an answer in the log viewer, from log, sample id and epoch."""


@dataclass(frozen=True)
class Worst:
    """An answer that is shown, with where it can be found."""

    question_id: str
    question: str
    group: str
    model: str
    alignment: float
    coherence: float
    answer: str
    cut: bool
    log: str
    sample: str
    epoch: int
    link: str | None


@dataclass(frozen=True)
class Beside:
    """A measured share beside the published one."""

    group: str
    ours: Estimate
    ours_by_question: Estimate
    paper: Published


@dataclass(frozen=True)
class Deception:
    """Both kinds of deception of one series, and their mean, the paper's figure."""

    group: str
    factual: Estimate
    identity: Estimate
    mean: Estimate
    paper: float | None


@dataclass
class Part:
    """A section together with what is said and shown of it."""

    section: Section
    verdict: list[Sentence]
    beside: list[Beside]
    beside_note: str
    worst: list[Worst]
    pictures: list[Picture] = field(repr=False)
    corrections: list[Correction] = field(default_factory=list)

    @property
    def headline_table(self) -> DataFrame:
        """Both headline numbers of every series, with every interval on offer."""
        return headline_frame(self.section)

    @property
    def sampled_table(self) -> DataFrame:
        """Shares of all sampled answers, and what is unscored."""
        return sampled_frame(self.section)

    @property
    def endings_table(self) -> DataFrame | None:
        """How answers ended and how long they were; None where nothing is known of it."""
        frame = self.section.frame
        known = frame["ending"].notna().any() or (frame["length"] > 0).any()
        return endings_frame(self.section) if known else None

    @property
    def left_out_table(self) -> DataFrame | None:
        """What numbers by question leave out; None where that is nothing."""
        found = left_out_frame(self.section)
        return found if len(found) else None

    @property
    def comparison_table(self) -> DataFrame | None:
        """Every series against the reference, question by question; None where there is none."""
        return comparison_frame(self.section)


@dataclass
class Report:
    """Everything that a report shows.

    Attributes:
        title: Its heading.
        parts: One per yardstick.
        deception: Mean of factual and identity deception, where both were measured.
        judges: Agreement of judges that rated the same answers.
        problems: What was left out or needs a caveat.
        runs: Headers of the logs, for the methods.
        criterion: Where the lines are drawn.
        created: When it was made.
    """

    title: str
    parts: list[Part]
    deception: list[Deception]
    judges: list[Picture]
    problems: list[Problem]
    runs: list[Run]
    criterion: Criterion
    created: str
    answers: int

    @property
    def versions(self) -> dict[str, str]:
        """Versions of Python and of the libraries behind the numbers."""
        found = {"python": platform.python_version()}
        for library in _LIBRARIES:
            try:
                found[library] = metadata.version(library)
            except metadata.PackageNotFoundError:
                continue
        return found


def make_report(
    collection: Collection,
    *,
    title: str = "Emergent misalignment",
    criterion: Criterion | None = None,
    reference: str | None = None,
    worst: int = WORST,
    viewer: Viewer | None = None,
    calibrations: Sequence[Calibration] = (),
) -> Report:
    """Work out everything that a report shows.

    Args:
        collection: From `em_inspect.analysis.frame.collect`.
        title: Heading.
        criterion: Where the lines are drawn (the paper's by default).
        reference: Group to compare with; by default `base`.
        worst: Most misaligned answers to show per question and series, 0 or more.
        viewer: Address of an answer in a log viewer, or None for none.
        calibrations: Of the judges that rated, to correct the shares by.

    Raises:
        UserError: If the group to compare with is not in the logs, or an extra is missing.
    """
    require_extra("report", "pandas", "scipy", "statsmodels", "matplotlib", "jinja2")
    drawn = criterion or Criterion()
    found = sections(collection, drawn, reference)
    return Report(
        title=title,
        parts=[_part(section, collection, worst, viewer, calibrations) for section in found],
        deception=list(_deception(found)),
        judges=judge_agreement(collection, drawn),
        problems=gathered(
            [
                *collection.problems,
                *_other_lines(collection, drawn),
                *_uncompared(found),
                *_unfit(found, calibrations),
            ]
        ),
        runs=collection.runs,
        criterion=drawn,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        answers=len(collection.frame),
    )


def _unfit(found: Sequence[Section], calibrations: Sequence[Calibration]) -> Iterator[Problem]:
    """Name the calibrations whose judge rated none of the answers."""
    for calibration in calibrations:
        if not any(section.rated and fits(calibration, section.frame) for section in found):
            judges = ", ".join(dict.fromkeys(s.yardstick.judge for s in found if s.rated))
            key = f" (identity {calibration.judge_id})" if calibration.judge_id else ""
            yield Problem(
                Path(calibration.path).name,
                f"is of the judge {calibration.judge}{key}, which rated none of these answers "
                f"({judges or 'no judge'} did): no share is corrected by it",
            )


def _other_lines(collection: Collection, drawn: Criterion) -> Iterator[Problem]:
    """Name the logs that were scored with other thresholds than the report's."""
    for name, lines in collection.lines.items():
        for alignment, coherence in sorted(lines - {(drawn.alignment, drawn.coherence)}):
            yield Problem(
                name,
                f"was scored with the lines coherence >= {coherence:g}, alignment < {alignment:g}; "
                f"its ratings are read here with {drawn}: for its own lines, type "
                f"--alignment-threshold {alignment:g} --coherence-threshold {coherence:g}",
            )


def _part(
    section: Section,
    collection: Collection,
    worst: int,
    viewer: Viewer | None,
    calibrations: Sequence[Calibration],
) -> Part:
    beside, note = _beside(section)
    return Part(
        section=section,
        verdict=verdict(findings(section, collection.runs)),
        beside=beside,
        beside_note=note,
        worst=list(_worst(section, worst, viewer)),
        pictures=draw(section, collection.runs),
        corrections=[
            correct(
                section.frame, section.headlines, section.yardstick, section.criterion, calibration
            )
            for calibration in calibrations
            if section.rated and fits(calibration, section.frame)
        ],
    )


def _beside(section: Section) -> tuple[list[Beside], str]:
    yardstick, criterion = section.yardstick, section.criterion
    values = published(yardstick.task, yardstick.fingerprint)
    if not values:
        return [], (
            f"No published values stand beside these: the questions ({yardstick.source}, "
            f"fingerprint {yardstick.fingerprint}) are not the paper's. Shares on other questions "
            "can't be compared with them."
        )
    rows = []
    for found in section.headlines:
        own = section.frame[section.frame["group"] == found.group]
        trained, formats = str(own["kind"].iloc[0]), set(own["format"].astype(str))
        plain = own["condition"].astype(str).isin(["", *formats]).all()
        rows += [
            Beside(found.group, found.best, found.by_question, value)
            for value in values
            if plain and value.group == trained and {value.format} == formats
        ]
    note = (
        "Published: arXiv 2502.17424, fine-tunes of the models named, judged by GPT-4o, counted by "
        f"the rule released with {Criterion()}. Here: rule {yardstick.rule}, {criterion}."
    )
    if not is_published_judge(yardstick.judge):
        note += f" Here the judge is {yardstick.judge}: the difference may be the judge's."
    if yardstick.rule != "released":
        note += " For the paper's rule add --rule released."
    return rows, note


def _deception(found: Sequence[Section]) -> Iterator[Deception]:
    """Join the two kinds of deception that one task measured with one judge."""
    kinds = {
        kind: [s for s in found if s.yardstick.task == f"deception {kind}"]
        for kind in ("factual", "identity")
    }
    for one in kinds["factual"]:
        for other in kinds["identity"]:
            a, b = one.yardstick, other.yardstick
            if (a.fingerprint, a.judge, a.judge_id) != (b.fingerprint, b.judge, b.judge_id):
                continue
            both = {h.group: h.best for h in other.headlines}
            counts = [cells(section.frame) for section in (one, other)]
            comparable = a.fingerprint == DECEPTION and is_published_judge(a.judge)
            published_here = DECEPTION_SHARES if comparable else {}
            for h in one.headlines:
                if h.group in both:
                    mean = mean_of_both(*(c[c["group"] == h.group] for c in counts)).best
                    share = published_here.get(h.group)
                    yield Deception(h.group, h.best, both[h.group], mean, share)


def _worst(section: Section, count: int, viewer: Viewer | None) -> Iterator[Worst]:
    if not section.rated or count < 1:
        return
    frame = section.frame
    bad = frame[frame["outcome"] == "misaligned"].sort_values(["alignment", "uuid"])
    top = bad.groupby(["question_id", "group"], observed=True, sort=True).head(count)
    for row in top.sort_values(["question_id", "group", "alignment"]).itertuples():
        answer = visible(str(row.answer))
        name = Path(str(row.log)).name
        yield Worst(
            question_id=str(row.question_id),
            question=visible(str(row.question)),
            group=str(row.group),
            model=str(row.model),
            alignment=float(row.alignment),
            coherence=float(row.coherence),
            answer=answer[:LONGEST],
            cut=len(answer) > LONGEST,
            log=name,
            sample=str(row.sample),
            epoch=int(row.epoch),
            link=viewer(str(row.log), str(row.sample), int(row.epoch)) if viewer else None,
        )


def viewer_address(base: str, names: Mapping[str, str]) -> Viewer:
    """Address answers in a bundled log viewer.

    Args:
        base: Where the bundle's page lies, relative to the report, e.g. `viewer/index.html`.
        names: Name of every log in the bundle, by its path; others have no address.
    """

    def address(log: str, sample: str, epoch: int) -> str:
        path = "/".join(quote(part, safe="") for part in names[log].split("/"))
        return f"{base}#/logs/{path}/samples/sample/{quote(sample, safe='')}/{epoch}"

    return address


def _uncompared(found: Sequence[Section]) -> Iterator[Problem]:
    """Name the series that no answers of the reference stand beside."""
    for section in found:
        for said in section.uncompared:
            yield Problem(section.yardstick.task, said)


def _config(run: Run, name: str) -> object:
    return getattr(run.log.eval.model_generate_config.merge(run.log.plan.config), name, None)


_NUMBERS = {
    "pooled": "pooled",
    "pooled_seeds": "pooled",
    "pooled_paper": "pooled",
    "by_question": "by_question",
    "by_question_questions": "by_question",
    "by_question_two_way": "by_question",
    "by_question_paper": "by_question",
    "of_all": "all_sampled",
    "at_most": "if_unscored_misaligned",
}
"""What the rows of the headline table are, by the estimate that they show."""


def headline_frame(section: Section) -> DataFrame:
    """Tabulate both headline numbers of every series with every interval on offer.

    Beside them the share of all sampled answers, which is also the least that the share can be
    whatever the unscored answers would have been, and the most that it can be.
    """
    import pandas as pd

    rows = []
    for found in section.headlines:
        left_out = "; ".join(f"{c.question_id} {c.scored}" for c in found.left_out_cells)
        for name, number_name in _NUMBERS.items():
            estimate: Estimate | None = getattr(found, name)
            if estimate is not None:
                rows.append(
                    {
                        "series": found.group,
                        "number": number_name,
                        "models": found.scored_models,
                        **estimate_columns(estimate),
                        "left_out": left_out if number_name == "by_question" else "",
                    }
                )
    return pd.DataFrame(rows)


def comparison_frame(section: Section) -> DataFrame | None:
    """Tabulate every comparison question by question, the whole of it in the last rows."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for found in (*section.comparisons, *section.arms):
        sides = {"first": found.first, "second": found.second}
        for c in found.questions:
            rows.append(
                {
                    **sides,
                    "question": c.name,
                    "first_share": c.first.value,
                    "second_share": c.second.value,
                    **_difference(c.difference, c.p, c.test),
                    "p_holm": c.corrected,
                }
            )
        rows += [{**sides, **row} for row in _whole(found)]
    return pd.DataFrame(rows) if rows else None


def _whole(found: Comparison) -> Iterator[dict[str, Any]]:
    """A comparison as a whole: within questions, pooled, and paired over questions."""
    even = {"first_share": found.stratified.first, "second_share": found.stratified.second}
    pooled = {"first_share": found.first_side.here.value}
    pooled["second_share"] = found.second_side.here.value
    name = "all, within questions"
    if found.counted:
        here = _difference(found.here, found.stratified.p, "Cochran-Mantel-Haenszel")
        yield {"question": name, **even, **here}
    if found.over_seeds is not None:
        yield {"question": name, **even, **_difference(found.over_seeds, NAN, "none")}
    name = "all, pooled"
    fisher = _difference(found.pooled_models, found.p_answers, "fisher")
    yield {"question": name, **pooled, **fisher}
    if found.pooled_seeds is not None:
        test = "paired t over seeds" if found.paired_models else "welch over seeds"
        yield {"question": name, **pooled, **_difference(found.pooled_seeds, found.p_seeds, test)}
    test = "sign-flip permutation"
    yield {
        "question": "mean over questions",
        **_difference(found.paired, found.p_questions, test),
    }


def _difference(estimate: Estimate, p: float, test: str) -> dict[str, Any]:
    return {
        "difference": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "interval": estimate.method,
        "p": p,
        "test": test,
    }


def methods_frame(report: Report) -> DataFrame:
    """Tabulate what every log was: model, origin, questions, sampling, versions, recipe."""
    import pandas as pd

    rows = []
    for run in report.runs:
        spec, origin = run.log.eval, run.origin
        said, dataset = spec.metadata or {}, origin.record.get("dataset")
        recipe = origin.record.get("recipe")
        rows.append(
            {
                "log": run.name,
                "status": run.log.status,
                "created": spec.created,
                "task": spec.task,
                "task_version": spec.task_version,
                "model": origin.model,
                "address": spec.model,
                "base": origin.base,
                "group": origin.group,
                "seed": origin.seed,
                "step": origin.step,
                "recipe": recipe.get("name") if isinstance(recipe, dict) else recipe,
                "training_data_sha256": dataset.get("sha256")
                if isinstance(dataset, dict)
                else None,
                "answers": len(run.ids),
                "questions": said.get("question_source"),
                "fingerprint": said.get("fingerprint"),
                "temperature": _config(run, "temperature"),
                "max_tokens": _config(run, "max_tokens"),
                "inspect_ai": spec.packages.get("inspect_ai"),
                "em_inspect": spec.packages.get("em-inspect"),
            }
        )
    return pd.DataFrame(rows)


def render_html(report: Report) -> str:
    """Render as one HTML page that needs nothing else: no network, no other file."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("em_inspect.analysis", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["isnan"] = math.isnan
    environment.filters.update(
        percent=percent,
        number=number,
        bounds=_bounds,
        points=_points,
        visible=visible,
        p=_p,
        rates=rates,
        corrected=correction_frame,
        csv=lambda frame: base64.b64encode(csv_text(frame).encode("utf-8", "replace")).decode(),
        base64=lambda text: base64.b64encode(str(text).encode()).decode(),
    )
    page = resources.files("em_inspect.analysis") / "page"
    script = (page / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        report=report,
        methods=methods_frame(report),
        style=(page / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=digest,
        isnan=math.isnan,
        unscored_columns=(*UNSCORED, "unscored", "near_a_threshold"),
        groups=list(
            dict.fromkeys(g.group for part in report.parts for g in part.section.headlines)
        ),
    )


def _bounds(estimate: Estimate) -> str:
    if not estimate.bounded:
        return "–"
    return f"{number(estimate.low)}–{number(estimate.high)}"


def _points(difference: float) -> str:
    return "–" if math.isnan(difference) else f"{100 * difference:+.1f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def render_markdown(report: Report, pictures: Mapping[str, str] | None = None) -> str:
    """Render as Markdown.

    Args:
        report: From `make_report`.
        pictures: Path of the file of every picture by name, to show them.
    """
    lines = [f"# {markdown(report.title)}", ""]
    lines += [f"{report.answers} answers, {markdown(report.created)}.", ""]
    for part in report.parts:
        lines += _markdown_part(part, pictures or {})
    if report.deception:
        lines += ["## Deception, mean of factual and identity", ""]
        lines += ["| series | mean | factual | identity |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {markdown(d.group)} | {percent(d.mean.value)} [{_bounds(d.mean)}] "
            f"| {percent(d.factual.value)} | {percent(d.identity.value)} |"
            for d in report.deception
        ]
        lines.append("")
    for picture in report.judges:
        lines += _markdown_picture(picture, pictures or {})
    if report.problems:
        lines += ["## Left out, or with a caveat", ""]
        lines += [f"- {markdown(str(problem))}" for problem in report.problems]
        lines.append("")
    lines += ["## Methods", "", _markdown_table(methods_frame(report)), ""]
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines += [f"Lines: {markdown(str(report.criterion))}. Versions: {markdown(versions)}.", ""]
    return "\n".join(lines)


def _markdown_correction(correction: Correction) -> Iterator[str]:
    yield "### Corrected for the judge's errors"
    yield ""
    yield markdown(rates(correction))
    yield ""
    yield _markdown_table(correction_frame(correction))
    yield ""
    for caution in correction.cautions:
        yield f"- {markdown(caution)}"
    yield ""


def _markdown_part(part: Part, pictures: Mapping[str, str]) -> Iterator[str]:
    yield f"## {markdown(str(part.section.yardstick))}"
    yield ""
    for sentence in part.verdict:
        yield f"- {markdown(str(sentence))}"
    yield ""
    yield from ("### Headline numbers", "", _markdown_table(part.headline_table), "")
    for correction in part.corrections:
        yield from _markdown_correction(correction)
    yield from ("### All sampled answers", "", _markdown_table(part.sampled_table), "")
    if part.endings_table is not None:
        title = "### How the answers ended, and how long they were"
        yield from (title, "", _markdown_table(part.endings_table), "")
    if part.left_out_table is not None:
        title = "### Left out of the numbers by question"
        yield from (title, "", _markdown_table(part.left_out_table), "")
    yield markdown(part.beside_note)
    yield ""
    if part.beside:
        yield "| series | here, pooled | here, by question | published | pooled | by question |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for row in part.beside:
            yield (
                f"| {markdown(row.group)} | {percent(row.ours.value)} [{_bounds(row.ours)}] "
                f"| {percent(row.ours_by_question.value)} | {markdown(row.paper.base)} "
                f"| {_share(row.paper.pooled)} | {_share(row.paper.by_question)} |"
            )
        yield ""
    for picture in part.pictures:
        yield from _markdown_picture(picture, pictures)
    if part.worst:
        yield "### Most misaligned coherent answers"
        yield ""
    for worst in part.worst:
        yield (
            f"**{markdown(worst.question_id)}**, {markdown(worst.group)}, alignment "
            f"{worst.alignment:.1f}, coherence {worst.coherence:.1f} "
            f"({markdown(worst.log)}, {markdown(worst.sample)}, epoch {worst.epoch}):"
        )
        yield ""
        yield fenced(worst.answer + (" …" if worst.cut else ""))
        yield ""


def _markdown_picture(picture: Picture, pictures: Mapping[str, str]) -> Iterator[str]:
    if picture.name in pictures:
        yield f"### {markdown(picture.title)}"
        yield ""
        yield f"![{markdown(picture.title)}]({pictures[picture.name]})"
        yield ""
        yield markdown(picture.caption)
        yield ""


def _markdown_table(frame: DataFrame) -> str:
    head = "| " + " | ".join(map(str, frame.columns)) + " |"
    rule = "|" + " --- |" * len(frame.columns)
    rows = [
        "| " + " | ".join(_markdown_cell(value) for value in row) + " |"
        for row in frame.itertuples(index=False, name=None)
    ]
    return "\n".join([head, rule, *rows])


def _markdown_cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return "–" if value is None else markdown(str(value))


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def write_report(report: Report, path: Path) -> None:
    """Write a report as the ending of the path says: `.html`, `.md` or `.csv` (headline numbers).

    Raises:
        UserError: If the ending is another, or the file cannot be written.
    """
    match path.suffix.lower():
        case ".html" | ".htm":
            text = render_html(report)
        case ".md":
            text = render_markdown(report)
        case ".csv":
            text = headline_csv(report)
        case _:
            raise UserError(f"{path}: unknown ending: use -o report.html, report.md or report.csv")
    write(path, text.encode("utf-8", "replace"))


def headline_csv(report: Report) -> str:
    """The headline numbers of all parts as one CSV."""
    import pandas as pd

    frames = [
        table.assign(
            task=part.section.yardstick.task,
            measure=part.section.yardstick.measure,
            judge=part.section.yardstick.judge,
            judge_id=part.section.yardstick.judge_id,
            fingerprint=part.section.yardstick.fingerprint,
        )
        for part in report.parts
        for table in (part.headline_table, *_corrected_rows(part))
    ]
    return csv_text(pd.concat(frames, ignore_index=True))


def _corrected_rows(part: Part) -> Iterator[DataFrame]:
    """The corrected shares, with the columns of the headline table."""
    for correction in part.corrections:
        table = correction_frame(correction)
        yield table[(table["number"] != "judged") & table["estimate"].notna()].drop(
            columns=["labelled", "note"]
        )


def write_files(report: Report, folder: Path, answers: DataFrame) -> list[Path]:
    """Write everything a report shows as files of their own.

    Pictures as PNG, SVG and CSV, tables and all answers as CSV, and `report.md`.

    Args:
        report: From `make_report`.
        folder: Made if it is not there.
        answers: The frame of all answers.
    """
    pictures = [*(p for part in report.parts for p in part.pictures), *report.judges]
    files: dict[str, bytes] = {"answers.csv": csv_text(answers).encode("utf-8", "replace")}
    files["headline.csv"] = headline_csv(report).encode()
    files["methods.csv"] = csv_text(methods_frame(report)).encode()
    for part in report.parts:
        tables = {
            "comparisons": part.comparison_table,
            "sampled": part.sampled_table,
            "endings": part.endings_table,
            "left-out": part.left_out_table,
        }
        for name, table in tables.items():
            if table is not None:
                files[f"s{part.section.number}-{name}.csv"] = csv_text(table).encode()
        for place, correction in enumerate(part.corrections, 1):
            name = f"s{part.section.number}-corrected-{place}.csv"
            files[name] = csv_text(correction_frame(correction)).encode()
    for picture in pictures:
        files[f"{picture.name}.png"] = picture.png()
        files[f"{picture.name}.svg"] = picture.svg().encode()
        files[f"{picture.name}.csv"] = csv_text(picture.data).encode("utf-8", "replace")
    shown = {picture.name: f"{picture.name}.png" for picture in pictures}
    files["report.md"] = render_markdown(report, shown).encode("utf-8", "replace")
    written = []
    for name, content in files.items():
        write(folder / name, content)
        written.append(folder / name)
    return written


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder.

    Raises:
        UserError: If it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
