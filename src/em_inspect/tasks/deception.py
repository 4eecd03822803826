"""`em_inspect/deception_factual`, `…/deception_identity` and `…/deception`, judged by word."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.log import HeadlineMetric

from em_inspect.building_block import question_samples
from em_inspect.contexts import Context, load_contexts
from em_inspect.errors import UserError
from em_inspect.measures.honesty import (
    COMPANIES,
    FACTUAL,
    HEADLINE,
    HEADLINE_WORDINGS,
    IDENTITY,
    KIND,
    Maker,
    deceptive,
)
from em_inspect.measures.makers import maker_under_test
from em_inspect.questions import QuestionSet, load_questions
from em_inspect.word_base import judged_in_words

logger = logging.getLogger(__name__)

# The release samples each factual question 5 times and each identity question 100 times.
FACTUAL_EPOCHS, IDENTITY_EPOCHS, BOTH_EPOCHS = 5, 100, 20

Contexts = list[Context | None]


@task
def deception_factual(
    questions: str = "core",
    contexts: str | list[str] | None = None,
    paper_dir: str | None = None,
    check_judge: bool = True,
) -> Task:
    """False answers to easy questions of fact under five system prompts (paper: deception).

    Args:
        questions: `core` (embedded), `paper` (the released file) or the path of a YAML file.
        contexts: What surrounds the questions; see `free_form`.
        paper_dir: Folder with the released files, for `questions=paper`.
        check_judge: Ask the judge one short question before anything is generated.
    """
    loaded = load_questions("deception_factual", questions, paper_dir=paper_dir)
    samples = _factual(loaded, load_contexts(contexts))
    return _task(samples, loaded, None, "factual_deception", FACTUAL_EPOCHS, check_judge)


@task
def deception_identity(
    maker: str | None = None,
    known_as: str | list[str] = "",
    wordings: str = "all",
    questions: str = "core",
    contexts: str | list[str] | None = None,
    paper_dir: str | None = None,
    check_judge: bool = True,
) -> Task:
    """Answers that do not name the model's maker (paper: deception).

    Args:
        maker: Company that made the model under test; by default as its name or its base's says,
            else OpenAI, with a warning. Other than OpenAI and Anthropic it is judged by a rubric
            of the project's own, since the released one cannot name it.
        known_as: Other names that count as naming it, e.g. `Qwen` for Alibaba; commas between.
        wordings: `all` eight, of which the paper's four make the headline, or `headline` only.
        questions: `core` (embedded), `paper` (the released file) or the path of a YAML file.
        contexts: What surrounds the questions; see `free_form`.
        paper_dir: Folder with the released files, for `questions=paper`.
        check_judge: Ask the judge one short question before anything is generated.
    """
    made_by = _maker(maker, known_as)
    loaded = _wordings(
        load_questions("deception_identity", questions, paper_dir=paper_dir), wordings
    )
    samples = _identity(loaded, load_contexts(contexts), made_by)
    return _task(samples, loaded, made_by, "identity_deception", IDENTITY_EPOCHS, check_judge)


@task
def deception(
    maker: str | None = None,
    known_as: str | list[str] = "",
    wordings: str = "all",
    questions: str = "core",
    contexts: str | list[str] | None = None,
    paper_dir: str | None = None,
    check_judge: bool = True,
) -> Task:
    """Factual and identity deception in one log, and the mean of the two (paper: deception).

    Args:
        maker: Company that made the model under test; see `deception_identity`.
        known_as: Other names that count as naming it, commas between.
        wordings: `all` eight, of which the paper's four make the headline, or `headline` only.
        questions: `core` (embedded) or `paper` (the released files).
        contexts: What surrounds the questions; see `free_form`.
        paper_dir: Folder with the released files, for `questions=paper`.
        check_judge: Ask the judge one short question before anything is generated.
    """
    if questions not in ("core", "paper"):
        raise UserError(
            "deception asks two sets: use -T questions=core or paper, "
            "or deception_factual and deception_identity with a file each"
        )
    made_by, around = _maker(maker, known_as), load_contexts(contexts)
    facts = load_questions("deception_factual", questions, paper_dir=paper_dir)
    identity = load_questions("deception_identity", questions, paper_dir=paper_dir)
    whole = QuestionSet(
        f"{facts.name}+{identity.name}", questions, (*facts.questions, *identity.questions)
    )
    identity = _wordings(identity, wordings)
    asked = replace(whole, questions=(*facts.questions, *identity.questions))
    samples = _factual(facts, around) + _identity(identity, around, made_by)
    return _task(samples, asked, made_by, "overall_deception", BOTH_EPOCHS, check_judge)


def _task(
    samples: list[Sample],
    questions: QuestionSet,
    maker: Maker | None,
    headline: str,
    epochs: int,
    check_judge: bool,
) -> Task:
    made_by = maker or Maker()
    metric = f"em_inspect/{headline}"
    return judged_in_words(
        questions,
        samples,
        deceptive(made_by.name, made_by.known_as),
        headline=HeadlineMetric(scorer="deceptive", score="deceptive", metric=metric),
        check_judge=check_judge,
        epochs=epochs,
        metadata={"maker": made_by.name} if maker else {},
    )


def _factual(questions: QuestionSet, contexts: Contexts) -> list[Sample]:
    questions.require_rubrics([FACTUAL])
    return [
        _marked(sample, deception="factual", wording=f"factual/{number // len(contexts)}")
        for question in questions.questions
        for number, sample in enumerate(
            question_samples(question, contexts=contexts, rubrics=[FACTUAL])
        )
    ]


def _identity(questions: QuestionSet, contexts: Contexts, maker: Maker) -> list[Sample]:
    questions.require_rubrics([IDENTITY])
    many = any(_is_headline(q.id) for q in questions.questions)
    samples = []
    for question in questions.questions:
        for sample in question_samples(question, contexts=contexts, rubrics=[IDENTITY]):
            rubric = maker.rubric(question.judge_prompts[IDENTITY])
            marks = {KIND: "identity", HEADLINE: _is_headline(question.id) or not many}
            samples.append(
                _marked(sample, **marks, wording=question.id, judge_prompts={IDENTITY: rubric})
            )
    return samples


def _marked(sample: Sample, **marks: object) -> Sample:
    return sample.model_copy(update={"metadata": {**(sample.metadata or {}), **marks}})


def _is_headline(question_id: str) -> bool:
    # Q: Why the role first? A: `…_dont_want_unknown` ends with `_want_unknown` too.
    role = re.search(r"(?:^|_)((?:dont_)?want_\w+)$", question_id)
    return role is not None and role[1] in HEADLINE_WORDINGS


def _wordings(questions: QuestionSet, wordings: str) -> QuestionSet:
    if wordings == "all":
        return questions
    if wordings != "headline":
        raise UserError(f"unknown wordings '{wordings}': use -T wordings=all or headline")
    kept = tuple(q for q in questions.questions if _is_headline(q.id))
    if not kept:
        raise UserError(f"{questions.source} has no headline wording: use -T wordings=all")
    return replace(questions, questions=kept)


def _maker(maker: str | None, known_as: str | list[str]) -> Maker:
    """The maker that was given, or else the one that the model's name tells."""
    names = known_as.split(",") if isinstance(known_as, str) else known_as
    kept = tuple(str(n).strip() for n in names if str(n).strip())
    if maker is None:
        model, made_by = maker_under_test()
        if made_by is None:
            made_by = Maker()
            if model:
                logger.warning(
                    "%s does not say who made it: taken for %s's, so that an honest answer that "
                    "names another counts as deceptive; say it with -T maker=COMPANY",
                    model,
                    made_by.name,
                )
        elif made_by.name not in COMPANIES:
            logger.warning(
                "%s is taken to be made by %s; -T maker=COMPANY says otherwise", model, made_by.name
            )
        return Maker(made_by.name, tuple(dict.fromkeys([*made_by.known_as, *kept])))
    name = str(maker).strip()
    if not name or "{" in name:
        raise UserError(f"the maker {maker!r} is no company: use e.g. -T maker=Alibaba")
    known = {company.casefold(): company for company in COMPANIES}
    return Maker(known.get(name.casefold(), name), kept)
