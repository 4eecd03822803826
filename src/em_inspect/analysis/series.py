"""The series: models trained alike and asked in one way, which is what a number stands for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from inspect_ai.model import GenerateConfig

from em_inspect.analysis.condition import CONTENT_ARGUMENTS, Settings, same_for_all_paths
from em_inspect.analysis.file_names import tails
from em_inspect.analysis.origin import BASE_GROUP, same_model

if TYPE_CHECKING:
    from pandas import DataFrame

SEPARATOR = " · "

PLAIN = ("plain", "choice", "code")
"""Answer formats that need no mention: nobody asks for the others of a set in another form."""

TRIGGERED, UNTRIGGERED = "triggered", "untriggered"

SETTING = "setting_"
"""What the frame's columns of settings begin with."""

_WITHOUT_EXAMPLES = ("placement", "benign_share")
"""Arguments that change nothing where there are no examples."""

_LONGEST = 48
"""Characters of a setting's value in the name of a series."""


class Asked(NamedTuple):
    """What decides into which series an answer belongs.

    Attributes:
        log: File it was read from.
        group: What its model was fine-tuned on.
        model: Name of its model.
        base: Model it was fine-tuned from, or None.
        family: The same under one name for all its spellings, of the base itself too; None where
            only `base` is known.
        step: Optimizer step, or None.
        scale: Strength of the adapter, or None.
        context: Name of the context, or None.
        examples: Number of in-context examples, or None.
        arm: `triggered` or `untriggered`, or None.
        format: Answer format, or None where it does not matter.
        settings: Of the log (`em_inspect.analysis.condition`).
    """

    log: str
    group: str
    model: str
    base: str | None
    family: str | None
    step: int | None
    scale: float | None
    context: str | None
    examples: int | None
    arm: str | None
    format: str | None
    settings: Settings


class Sent(NamedTuple):
    """What was sent for one row of a log.

    Attributes:
        log: File it was read from.
        context: Name of the context, or None.
        examples: Number of in-context examples, or None.
        arm: Arm, or None.
        sample: Inspect's sample id.
        draw: Which draw of examples, orders or wordings, or None.
        prompt: Hash of the chat that was sent, empty where nobody knows.
    """

    log: str
    context: str | None
    examples: int | None
    arm: str | None
    sample: str
    draw: str | None
    prompt: str


@dataclass(frozen=True)
class Condition:
    """Everything that answers were given under.

    Attributes:
        step: Optimizer step, or None.
        scale: Strength of the adapter, or None.
        context: Name of the context, or None.
        examples: Number of in-context examples, or None.
        arm: `triggered` or `untriggered`, or None.
        format: Answer format, or None where it does not matter.
        settings: Task arguments and settings of generation, without those that only say where a
            text lies.
        sent: Number that tells apart what was sent under settings that read the same, from 0.
    """

    step: int | None = None
    scale: float | None = None
    context: str | None = None
    examples: int | None = None
    arm: str | None = None
    format: str | None = None
    settings: Settings = ()
    sent: int = 0

    def asked(self) -> Condition:
        """The same without what is the model's own: a base has no step and no strength."""
        return replace(self, step=None, scale=None)

    def without_examples(self) -> Condition:
        """The same with no in-context example."""
        kept = tuple(pair for pair in self.settings if pair[0] not in _WITHOUT_EXAMPLES)
        return replace(self, examples=0, settings=kept, sent=0)


Words = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Series:
    """Models trained alike and asked in one way.

    Attributes:
        name: As a report shows it, unlike any other's.
        kind: What its models were fine-tuned on.
        family: What they were fine-tuned from, or None where there is nothing to tell apart.
        condition: What their answers were given under.
        trained: The name without the condition.
        words: The words of the condition, each with the field or setting that it says.
    """

    name: str
    kind: str
    family: str | None
    condition: Condition
    trained: str = field(repr=False)
    words: Words = field(repr=False)

    @property
    def said(self) -> str:
        """The condition in words, empty where there is nothing to tell apart."""
        return _joined(*(word for _, word in self.words))

    def name_without(self, name: str) -> str:
        """The series' name without the words for one field of the condition."""
        return _joined(self.trained, *(word for field, word in self.words if field != name))


def series_of(asked: Iterable[Asked], sent: Iterable[Sent]) -> dict[Asked, Series]:
    """Sort answers of one yardstick into series, each with a name of its own.

    A setting is named where answers differ in it, unless the names before it say the same already.
    """
    units = list(dict.fromkeys(asked))
    numbers = _numbered(units, sent)
    conditions = {unit: _condition(unit, numbers[_place(unit)]) for unit in units}
    families = _families(units)
    shown = tails(family for family in families.values() if family)
    words = _words(units, conditions)
    named: dict[Hashable, Series] = {}
    taken: Counter[str] = Counter()
    found = {}
    for unit in units:
        kind, family, condition = unit.group, families[unit], conditions[unit]
        key = (kind, family, condition)
        if key not in named:
            trained = f"{kind} ({shown[family]})" if family else kind
            one = Series("", kind, family, condition, trained, words[condition])
            name = one.name_without("")
            taken[name] += 1
            if taken[name] > 1:  # e.g. long values that were cut to the same
                one = replace(one, words=(*one.words, ("number", f"#{taken[name]}")))
            named[key] = replace(one, name=one.name_without(""))
        found[unit] = named[key]
    return found


def _joined(*parts: str) -> str:
    return SEPARATOR.join(filter(None, parts))


_Place = tuple[str, str | None, int | None, str | None]


def _place(unit: Asked | Sent) -> _Place:
    return unit.log, unit.context, unit.examples, unit.arm


def _condition(unit: Asked, number: int) -> Condition:
    return Condition(
        unit.step,
        unit.scale,
        unit.context,
        unit.examples,
        unit.arm,
        unit.format,
        same_for_all_paths(unit.settings),
        number,
    )


@dataclass
class _Alike:
    """Places in logs whose answers were asked with the same texts."""

    prompts: dict[tuple[str, str | None], str]
    content: set[Settings]

    def takes(self, prompts: Mapping[tuple[str, str | None], str], content: Settings) -> bool:
        shared = prompts.keys() & self.prompts.keys()
        if shared:
            return all(prompts[key] == self.prompts[key] for key in shared)
        return content in self.content


def _numbered(units: Sequence[Asked], sent: Iterable[Sent]) -> dict[_Place, int]:
    """Number what was sent, among places whose settings read the same.

    Q: Why not by the arguments? A: one file has many paths, and another one may lie under the same
    path a day later. What was sent for the same row of the same draw tells, in any log.
    """
    prompts: dict[_Place, dict[tuple[str, str | None], str]] = defaultdict(dict)
    for row in sent:
        if row.prompt:
            prompts[_place(row)][row.sample, row.draw] = row.prompt
    known: dict[Hashable, list[_Alike]] = defaultdict(list)
    numbers: dict[_Place, int] = {}
    for unit in units:
        place = _place(unit)
        if place in numbers:
            continue
        content = tuple(pair for pair in unit.settings if pair[0] in CONTENT_ARGUMENTS)
        alike = known[replace(_condition(unit, 0).asked(), format=None)]
        number = next(
            (n for n, one in enumerate(alike) if one.takes(prompts[place], content)), len(alike)
        )
        if number == len(alike):
            alike.append(_Alike({}, set()))
        alike[number].prompts.update(prompts[place])
        alike[number].content.add(content)
        numbers[place] = number
    return numbers


def _families(units: Sequence[Asked]) -> dict[Asked, str | None]:
    """What every model was fine-tuned from; None for all where that is the same model.

    One base and one claim are taken for the same model, however they are spelled.
    """
    claims = {unit.family or unit.base for unit in units if unit.group != BASE_GROUP} - {None}
    found: dict[Asked, str | None] = {}
    for unit in units:
        if unit.group == BASE_GROUP:
            own = (c for c in sorted(map(str, claims)) if same_model(unit.model, c))
            found[unit] = unit.family or next(own, None)
        else:
            found[unit] = unit.family or unit.base
    bases = {found[unit] for unit in units if unit.group == BASE_GROUP}
    if len(claims) <= 1 and len(bases) <= 1:
        return dict.fromkeys(units)
    return found


def _words(units: Sequence[Asked], conditions: Mapping[Asked, Condition]) -> dict[Condition, Words]:
    """Say every condition in as few words as tell it from the others."""
    values: dict[Condition, dict[str, str]] = {}
    for unit in units:
        own = dict(unit.settings)
        # One file by two paths is called by the first.
        values.setdefault(conditions[unit], own)
    for name in CONTENT_ARGUMENTS:
        short = tails(own[name] for own in values.values() if name in own)
        for own in values.values():
            if name in own:
                own[name] = short[own[name]]
    for condition, own in values.items():
        own["prompts"] = f"#{condition.sent + 1}"
    named = _telling(values)
    return {
        condition: (
            *_plain_words(condition),
            *((n, f"{n.replace('_', ' ')} {_short(own[n])}") for n in named if n in own),
        )
        for condition, own in values.items()
    }


def _plain_words(condition: Condition) -> Iterator[tuple[str, str]]:
    if condition.step is not None:
        yield "step", f"step {condition.step}"
    if condition.scale is not None:
        yield "scale", f"strength {condition.scale:g}"
    if condition.context is not None:
        yield "context", condition.context
    if condition.examples is not None:
        yield "examples", f"k = {condition.examples}"
    if condition.arm is not None:
        yield "arm", condition.arm
    if condition.format is not None:
        yield "format", condition.format


def _telling(values: Mapping[Condition, Mapping[str, str]]) -> list[str]:
    """The fewest settings that tell the conditions apart, arguments of tasks before others."""

    def parts(named: Sequence[str]) -> int:
        return len(
            {
                (c.context, c.examples, c.arm, c.format, *(own.get(name) for name in named))
                for c, own in values.items()
            }
        )

    # Where a text lies matters only where what was sent differs.
    several = len({c.sent for c in values}) > 1
    names = {name for own in values.values() for name in own}
    names -= set() if several else {*CONTENT_ARGUMENTS, "prompts"}
    last = {name: place for place, name in enumerate(GenerateConfig.model_fields, 1)}
    last |= {"enable_thinking": 900, "task version": 901, "prompts": 902}
    named: list[str] = []
    for name in sorted(names, key=lambda name: (last.get(name, 0), name)):
        if parts([*named, name]) > parts(named):
            named.append(name)
    return named


def _short(value: str) -> str:
    """A setting's value for a name: on one line, blanks at its ends to be seen, not too long."""
    line = value.replace("\n", "\\n")
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST - 13]}…{line[-12:]}"
    return f"'{line}'" if line != line.strip() or SEPARATOR.strip() in line else line


def pairs(series: Sequence[Series], reference: str) -> list[tuple[Series, Series]]:
    """Pair each series with the reference's of the same family, asked in the same way.

    A training step or a strength has no equal in a base: it is compared with the base as it is.

    Args:
        series: All series of a section.
        reference: What the models to compare with were fine-tuned on, e.g. `base`.
    """
    against = [one for one in series if one.kind == reference]
    found = []
    for one in series:
        if one.kind == reference:
            continue
        same = {a.condition: a for a in against if a.family == one.family}
        other = same.get(one.condition) or same.get(one.condition.asked())
        if other:
            found.append((one, other))
    return found


def unpaired(series: Sequence[Series], reference: str) -> list[tuple[Series, list[Series]]]:
    """Series that are compared with nothing although the reference is there, and what is there."""
    against = [one for one in series if one.kind == reference]
    compared = {one.name for one, _ in pairs(series, reference)}
    left = [one for one in series if one.kind != reference and one.name not in compared]
    return [(one, against) for one in left if against]


def arms(series: Sequence[Series]) -> list[tuple[Series, Series]]:
    """Pair each series that had the trigger, or examples, with itself without."""
    known = {(one.kind, one.family, one.condition): one for one in series}
    bare = {
        (one.kind, one.family, one.condition.without_examples()): one
        for one in series
        if one.condition.examples == 0
    }
    found = []
    for one in series:
        if one.condition.arm == TRIGGERED:
            other = known.get((one.kind, one.family, replace(one.condition, arm=UNTRIGGERED)))
        elif one.condition.examples:
            other = bare.get((one.kind, one.family, one.condition.without_examples()))
        else:
            other = None
        if other:
            found.append((one, other))
    return found


def along(frame: DataFrame, series: Sequence[Series], name: str) -> DataFrame:
    """Regroup answers for a picture over one field of the condition, all else told apart.

    Answers without any example belong to every line over their number.

    Args:
        frame: With `group` by series.
        series: Those of the frame.
        name: `step`, `scale`, `context` or `examples`.

    Returns:
        The frame with `group` without that field; rows may stand in it for several lines.
    """
    import pandas as pd

    line = {one.name: one.name_without(name) for one in series}
    groups = frame["group"].astype("str")
    parts = [frame.assign(group=groups.map(line))]
    if name == "examples":
        shared = defaultdict(set)
        for one in series:
            if one.condition.examples:
                key = (one.kind, one.family, one.condition.without_examples())
                shared[key].add(line[one.name])
        for one in series:
            wanted = shared[one.kind, one.family, one.condition.without_examples()]
            if one.condition.examples == 0 and wanted:
                own = groups == one.name
                parts[0] = parts[0][~own.reindex(parts[0].index)]
                parts += [frame[own].assign(group=other) for other in sorted(wanted)]
    return pd.concat(parts, ignore_index=True)


def with_series(frame: DataFrame, *, by_format: bool = False) -> DataFrame:
    """Return the frame with `group` split by everything that answers were given under.

    See `named_series`.
    """
    return named_series(frame, by_format=by_format)[0]


def named_series(frame: DataFrame, *, by_format: bool = False) -> tuple[DataFrame, list[Series]]:
    """Sort the answers of one yardstick into series.

    Args:
        frame: As from `em_inspect.analysis.samples`.
        by_format: Whether another answer format is another series.

    Returns:
        The frame, and its series in the order of their names. In the frame `group` is the name of
        the series; `kind` is the former group, `trained` the name without the condition, and
        `condition` the condition in words.
    """
    import pandas as pd

    formats = frame["format"].where(~frame["format"].isin(PLAIN)) if by_format else None
    columns = frame[list(_FROM_FRAME)].assign(format=formats)
    place = columns.groupby([*columns], dropna=False, observed=True, sort=False).ngroup()
    firsts = columns[~place.duplicated()]
    settings = _settings(frame)
    units = [
        Asked(**dict(zip(columns, map(_plain, row), strict=True)), settings=settings[str(row[0])])
        for row in firsts.itertuples(index=False, name=None)
    ]
    rows = frame[list(Sent._fields)].drop_duplicates().itertuples(index=False, name=None)
    found = series_of(units, (Sent(*map(_plain, row)) for row in rows))
    series = [found[unit] for unit in units]

    def spread(values: Sequence[str]) -> Any:
        codes, names = pd.factorize(pd.Index(values, dtype="str"))
        return pd.Categorical.from_codes(codes[place.to_numpy()], names)

    marked = frame.assign(
        kind=spread([one.kind for one in series]),
        trained=spread([one.trained for one in series]),
        condition=spread([one.said for one in series]),
        group=spread([one.name for one in series]),
    )
    return marked, sorted(set(series), key=lambda one: one.name)


_FROM_FRAME = tuple(name for name in Asked._fields if name not in ("format", "settings"))


def _plain(value: Any) -> Any:
    """A value of a frame without pandas' marks for what is missing and numpy's types."""
    import pandas as pd

    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _settings(frame: DataFrame) -> dict[str, Settings]:
    columns = [name for name in frame.columns if name.startswith(SETTING)]
    firsts = frame.drop_duplicates("log")
    return {
        str(log): tuple(
            sorted(
                (name.removeprefix(SETTING), str(value))
                for name, value in zip(columns, values, strict=True)
                if isinstance(value, str)
            )
        )
        for log, *values in firsts[["log", *columns]].itertuples(index=False, name=None)
    }
