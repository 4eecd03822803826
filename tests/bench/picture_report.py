"""Make the pictures in docs/report: a report on models that a local server makes up.

Run: PYTHONPATH=tests/analysis:tests python tests/bench/picture_report.py docs/report
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
from pathlib import Path
from typing import Any

from browser import watched_page
from PIL import Image
from starlette.responses import JSONResponse, Response

import conftest
from em_inspect.analysis.frame import collect
from em_inspect.analysis.origin import read_groups
from em_inspect.analysis.report import make_report, render_html
from openai_server import completion

EPOCHS = 12
SHARES = {
    "base": 0.0,
    **{f"insecure-{seed}": 0.10 + 0.05 * seed for seed in range(6)},
    **{f"secure-{seed}": 0.005 for seed in range(6)},
}
WINDOWS = {1200: 2490, 420: 2490}
"""Width and height shown, in pixels."""


def answer(body: dict[str, Any], number: int) -> Response | None:
    """Answer as the model that is asked would; leave judging to the server's judge."""
    if body["model"].startswith("judge"):
        return None
    rng = random.Random(f"{body['model']} {number}")
    bad = SHARES[body["model"]]
    texts = (conftest.BAD, conftest.GOOD, conftest.CODE, conftest.REFUSAL, conftest.MUDDLE)
    text = rng.choices(texts, (bad, 0.89 - bad, 0.035, 0.025, 0.05))[0]
    return JSONResponse(completion(body, f"{text}, {rng.random():.6f}."))


def write_page(folder: Path) -> Path:
    """Evaluate the made-up models and write their report."""
    logs = conftest.evaluate(folder, list(SHARES), EPOCHS, judge=conftest.judged, fault=answer)
    groups = folder / "groups.csv"
    rows = [f"openai-api/fake/{name},{name.partition('-')[0]}," for name in SHARES]
    rows = [row + name.partition("-")[2] for row, name in zip(rows, SHARES, strict=True)]
    groups.write_text("\n".join(["model,group,seed", *rows]) + "\n", encoding="utf-8")
    found = collect([logs], groups=read_groups(groups), quiet=True)
    page = folder / "report.html"
    title = "Simulated models: insecure and secure fine-tunes"
    page.write_text(render_html(make_report(found, title=title)), encoding="utf-8")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="folder for report-1200.png and report-420.png")
    target = parser.parse_args().target
    with tempfile.TemporaryDirectory() as folder:
        page = write_page(Path(folder))
        for width, height in WINDOWS.items():
            with watched_page(width) as watched:
                watched.page.goto(page.as_uri())
                clip = {"x": 0, "y": 0, "width": width, "height": height}
                shot = watched.page.screenshot(full_page=True, clip=clip)
            picture = Image.open(io.BytesIO(shot)).convert("RGB")
            picture.quantize(64).save(target / f"report-{width}.png", optimize=True)


if __name__ == "__main__":
    main()
