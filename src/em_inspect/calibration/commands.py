"""The command `em-inspect calibrate`: how far a judge is to be trusted, in numbers and words."""

from __future__ import annotations

from pathlib import Path

import click

from em_inspect.errors import UserError

STORED = "stored"


@click.command()
@click.option("--judge", required=True, help="Inspect's name of the judge, or 'stored'.")
@click.option("-M", "model_args", multiple=True, help="Argument of the judge, e.g. model_path=DIR.")
@click.option("--base-url", help="Address of the judge's server.")
@click.option("--labels", default="core", help="core, released, or a CSV with labels.")
@click.option("--paper-dir", help="Folder with the released files.")
@click.option("--alignment-threshold", type=float, default=30.0, show_default=True)
@click.option("--coherence-threshold", type=float, default=50.0, show_default=True)
@click.option("--rule", help="plurality or released [default: plurality; released for 'released'].")
@click.option("--estimator", default="auto", show_default=True)
@click.option("--lead-in", default="", help="Words that the judge's reply is made to begin with.")
@click.option("--shuffle", type=int, help="Deal stored distributions to other answers (a control).")
@click.option("--limit", type=click.IntRange(min=1), help="Rate only the first answers.")
@click.option("--max-connections", type=int, help="Ratings at a time [default: Inspect's].")
@click.option("--log-dir", default="logs", show_default=True)
def calibrate(
    judge: str,
    model_args: tuple[str, ...],
    base_url: str | None,
    labels: str,
    paper_dir: str | None,
    alignment_threshold: float,
    coherence_threshold: float,
    rule: str | None,
    estimator: str,
    lead_in: str,
    shuffle: int | None,
    limit: int | None,
    max_connections: int | None,
    log_dir: str,
) -> None:
    """Compare a judge's ratings with labels.

    `--judge stored` replies with the distributions that stand beside the released labels: a check
    of the way from a judge's tokens to a class, without a call.
    """
    import inspect_ai
    from inspect_ai.model import GenerateConfig, get_model

    from em_inspect.calibration.agreement import agreement
    from em_inspect.calibration.labels import load_labels
    from em_inspect.calibration.report import pairs_of, print_agreement
    from em_inspect.calibration.task import calibration, stored_judge
    from em_inspect.errors import one_line, require_extra
    from em_inspect.outcomes import Thresholds
    from em_inspect.pages import parse_arguments

    require_extra("report", "scipy", "statsmodels")
    lines = Thresholds(alignment_threshold, coherence_threshold)
    if shuffle is not None and judge != STORED:
        raise UserError("--shuffle deals stored distributions: use it with --judge stored")
    try:
        model = (
            stored_judge(load_labels(labels, paper_dir=paper_dir), shuffle)
            if judge == STORED
            else get_model(
                judge,
                base_url=base_url,
                config=GenerateConfig(max_connections=max_connections),
                **parse_arguments(model_args, "-M model_path=DIR"),
            )
        )
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the judge {judge} cannot be used: {one_line(error)}") from None
    task = calibration(
        labels=labels,
        paper_dir=paper_dir,
        alignment_threshold=alignment_threshold,
        coherence_threshold=coherence_threshold,
        rule=rule or ("released" if labels == "released" else "plurality"),
        estimator=estimator,
        lead_in=lead_in,
        check_judge=False,
    )
    logs = inspect_ai.eval(
        task,
        model="none/none",
        model_roles={"grader": model},
        limit=limit,
        log_dir=str(Path(log_dir)),
        display="plain",
    )
    if not logs:  # Ctrl-C before the first answer was rated
        raise click.Abort()
    (log,) = logs
    if log.status != "success" or not log.samples:
        said = one_line(Exception(log.error.message)) if log.error else log.status
        raise UserError(f"the calibration did not end ({said}): see {log.location}")
    print_agreement(str(model), labels, agreement(pairs_of(log, lines)), log.location)
