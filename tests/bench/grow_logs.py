"""Grow small logs into large ones for measurements: the same answers under new identities.

Run: python tests/bench/grow_logs.py LOG_DIR OUT_DIR --questions 24 --epochs 100
"""

from __future__ import annotations

import argparse
import copy
import uuid
from pathlib import Path

from inspect_ai.log import EvalSample, read_eval_log, write_eval_log


def grow(source: Path, target: Path, questions: int, epochs: int) -> None:
    """Write a log of questions x epochs answers, taken in turn from a smaller log."""
    log = read_eval_log(str(source))
    given = log.samples or []
    ids = sorted({str(sample.id) for sample in given})
    pools = {name: [s for s in given if str(s.id) == name] for name in ids}
    names = [f"{ids[n % len(ids)]}_{n // len(ids)}" for n in range(questions)]
    log.samples = [
        renamed(pools[name.rpartition("_")[0]], name, epoch)
        for name in names
        for epoch in range(1, epochs + 1)
    ]
    log.eval.dataset.samples, log.eval.dataset.sample_ids = questions, list(names)
    log.eval.config.epochs = epochs
    if log.results:
        log.results.total_samples = log.results.completed_samples = questions * epochs
    log.eval.eval_id = uuid.uuid4().hex
    write_eval_log(log, str(target))


def renamed(pool: list[EvalSample], name: str, epoch: int) -> EvalSample:
    """Copy a sample under another question, epoch and identity."""
    sample = copy.copy(pool[epoch % len(pool)])
    sample.id, sample.epoch, sample.uuid = name, epoch, uuid.uuid4().hex
    sample.metadata = {**sample.metadata, "question_id": name}
    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True, exist_ok=True)
    for path in sorted(arguments.source.glob("*.eval")):
        grow(path, arguments.target / path.name, arguments.questions, arguments.epochs)


if __name__ == "__main__":
    main()
