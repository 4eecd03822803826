"""Each answer once: copies, answers out of a cache, rows without chance, and runs of the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from em_inspect.analysis.answer import Answer, Problem
from em_inspect.analysis.condition import draw_of, same_for_all_paths

if TYPE_CHECKING:
    from em_inspect.analysis.logs import Run


def yardstick_of(answer: Answer) -> tuple[str, ...]:
    """What must agree before two ratings of an answer are the same measurement made twice."""
    return (
        answer.judge,
        answer.judge_id,
        answer.estimator,
        answer.rule,
        answer.alignment_rubric,
        answer.coherence_rubric,
    )


@dataclass(frozen=True)
class Row:
    """An answer, and what tells whether it was generated anew.

    Attributes:
        answer: The answer.
        message: Identity of the model's message, or None.
        started: When its sample was started.
    """

    answer: Answer
    message: str | None
    started: str


@dataclass
class Account:
    """Which answers were counted, and what has to be said of those that were not.

    Attributes:
        runs: The logs that are read.
        seen: By an answer's identity and measurement, the log that it was counted in.
        generated: By a generation, the log that it was first met in, and when its sample started.
        epochs: By a generation and its log, the epoch that it was first met in.
        asked: By a row without chance, the log that its answer was counted in.
        waiting: By a row without chance, its answers without a score.
        counted: Answers that count, by log.
        measured: What the counted answers of a log were measured with.
        rows: What was sent for the counted answers of a log.
        left: What was left out, or is marked, by the log's name and what is to be said.
        by_name: Counted answers by the log's name and a judge that is known by name only.
    """

    runs: Sequence[Run]
    seen: dict[Hashable, Run] = field(default_factory=dict)
    generated: dict[Hashable, tuple[Run, str]] = field(default_factory=dict)
    epochs: dict[Hashable, int] = field(default_factory=dict)
    asked: dict[Hashable, Run] = field(default_factory=dict)
    waiting: dict[Hashable, list[tuple[Answer, Run]]] = field(default_factory=dict)
    counted: Counter[Path] = field(default_factory=Counter)
    measured: dict[Path, set[tuple[str, ...]]] = field(default_factory=dict)
    rows: dict[Path, set[Hashable]] = field(default_factory=dict)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_name: Counter[tuple[str, str]] = field(default_factory=Counter)

    def counts(self, row: Row, run: Run) -> bool:
        """Whether an answer is to be counted now: no copy, and nothing that was said already."""
        answer, measured = row.answer, (row.answer.task, *yardstick_of(row.answer))
        same = (answer.uuid, hash(answer.answer), *measured)
        first = self.seen.setdefault(same, run)
        if first.path != run.path:
            self.left[run.name, f"answers stand in {first.name} too and are counted once"] += 1
            return False
        if not self._generated_anew(row, run, measured):
            return False
        if run.repeatable and not self._asked_anew(row, run, measured):
            return False
        self.counted[run.path] += 1
        self.measured.setdefault(run.path, set()).add(measured)
        self.rows.setdefault(run.path, set()).add((answer.sample, answer.prompt, answer.examples))
        if not answer.judge_id and answer.judge != "none":
            self.by_name[run.name, answer.judge] += 1
        return True

    def _generated_anew(self, row: Row, run: Run, measured: tuple[str, ...]) -> bool:
        """Whether the answer was generated in its run, and not taken from Inspect's cache.

        A message keeps its identity in the cache, while the sample around it is a new one. Under
        other settings, e.g. as another trigger's arm without it, it is in another number.
        """
        answer, settings = row.answer, same_for_all_paths(run.settings)
        if not row.message:
            return True
        asked = (answer.model, answer.sample, answer.epoch, answer.prompt, settings)
        made = (row.message, *asked, *measured)
        self._note_repeats(row, run, measured)
        first, started = self.generated.setdefault(made, (run, row.started))
        if first.log.eval.eval_id == run.log.eval.eval_id or started == row.started:
            return True
        said = f"answers were read from the cache of {first.name}'s run and are counted once"
        self.left[run.name, said] += 1
        return False

    def _note_repeats(self, row: Row, run: Run, measured: tuple[str, ...]) -> None:
        """Mark what one run read from the cache again and again, as a cache for all epochs does."""
        answer = row.answer
        once = (run.path, row.message, answer.sample, *measured)
        if self.epochs.setdefault(once, answer.epoch) != answer.epoch:
            said = "answers are one generation read from the cache again: they are counted, and say"
            self.left[run.name, f"{said} nothing new"] += 1

    def _asked_anew(self, row: Row, run: Run, measured: tuple[str, ...]) -> bool:
        """Whether a row that always gets the same answer was not asked before.

        One without a score waits: another run may have one.
        """
        answer = row.answer
        settings = same_for_all_paths(run.settings)
        asked = (answer.model, answer.sample, answer.prompt, answer.draw, settings, *measured)
        if answer.reason is not None:
            self.waiting.setdefault(asked, []).append((answer, run))
            return False
        if asked not in self.asked:
            self.asked[asked] = run
            return True
        self._repeated(run, self.asked[asked])
        return False

    def _repeated(self, run: Run, first: Run) -> None:
        where = "in the same log" if first.path == run.path else f"in {first.name}"
        said = f"answers only repeat what was asked {where}, without chance, and are counted once"
        self.left[run.name, said] += 1

    def held_back(self) -> Iterator[Answer]:
        """The unscored answers to rows that have no scored one, once each."""
        for asked, waiting in self.waiting.items():
            first, run = waiting[0]
            scored = self.asked.get(asked)
            if scored is None:
                self.counted[run.path] += 1
                yield first
            for _, other in waiting[scored is None :]:
                self._repeated(other, scored or run)

    def problems(self) -> Iterator[Problem]:
        """What has to be said of what was not counted, or was counted with a caveat."""
        for (name, said), count in self.left.items():
            yield Problem(name, f"{count} {said}")
        for name, judge in self.by_name:
            said = f"does not say which model its judge {judge} was, as older versions did not: "
            yield Problem(name, f"{said}it is known by name only")
        yield from self._reruns()

    def _reruns(self) -> Iterator[Problem]:
        """Name the runs that asked the same model the same again, under the same settings.

        Rows without chance are counted once anyway.
        """
        alike: dict[Hashable, list[Run]] = {}
        for run in self.runs:
            if self.counted[run.path] and not run.repeatable:
                settings = same_for_all_paths(run.settings)
                key = (run.task, run.origin.model, run.origin.key, draw_of(run.log), settings)
                alike.setdefault(key, []).append(run)
        for runs in alike.values():
            first, *others = sorted(runs, key=lambda run: str(run.log.eval.created))
            for run in others:
                rows, measured = (
                    known.get(run.path, set()) & known.get(first.path, set())
                    for known in (self.rows, self.measured)
                )
                if rows and measured:
                    yield Problem(
                        run.name,
                        f"is another run of what {first.name} asked, of the same model under the "
                        f"same settings: both are counted, {self.counted[run.path]} answers beside "
                        f"{self.counted[first.path]}",
                    )
