"""A judge that spells numbers digit by digit is walked, and is never read off its first token."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest
from canned_judges import judged_by, rated, ratings, spelling
from inspect_ai.model import Model, get_model

from em_inspect.errors import UserError
from em_inspect.judging.judge import PROBE, prepare_judge
from em_inspect.judging.served_tree import PROBE as TREE_PROBE
from em_inspect.tasks.free_form import free_form
from openai_server import Server

# The reply begins 7 (.5), 4 (.3) or 1 (.2); after 7 comes 2 (.8) or the end, after 4 a 0, after 1
# a 0; after 10 comes another 0 (.25) or the end.
AFTER = {
    "": {"7": 0.5, "4": 0.3, "1": 0.2},
    "7": {"2": 0.8, "<|im_end|>": 0.2},
    "4": {"0": 1.0},
    "1": {"0": 1.0},
    "10": {"0": 0.25, "<|im_end|>": 0.75},
}
EXPECTED = {"72": 0.4, "40": 0.3, "7": 0.1, "10": 0.15, "100": 0.05}
SCORE = 72 * 0.4 + 40 * 0.3 + 7 * 0.1 + 10 * 0.15 + 100 * 0.05  # 48.0
MISREAD = 7 * 0.5 + 4 * 0.3 + 1 * 0.2  # 4.9, off the first token


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))


def judge_of(server: Server) -> Model:
    return get_model(
        "openai-api/fake/judge", base_url=server.url, api_key="sk-loopback-only", memoize=False
    )


def test_its_numbers_are_read_to_their_end(tmp_path: Path) -> None:
    with judged_by(spelling(AFTER)) as server:
        log = rated(server, tmp_path, free_form(check_judge=False))
        asked = Counter(
            request["messages"][0]["content"]
            for request in server.requests
            if request["model"] == "judge"
        )
    ((_, *both),) = ratings(log)
    for rating in both:
        assert rating.estimator == "digit_tree"
        assert rating.read().score == pytest.approx(SCORE, abs=0.01)
        assert rating.read().mass == pytest.approx(1, abs=1e-6)
        for reply, p in EXPECTED.items():
            assert rating.distribution[reply] == pytest.approx(p, abs=1e-6)
        assert rating.unseen == pytest.approx(0, abs=1e-6)
    per_rating = [n for prompt, n in asked.items() if prompt not in (PROBE, TREE_PROBE)]
    assert len(per_rating) == 2
    assert max(per_rating) <= 12


def test_a_third_digit_takes_its_number_off_the_scale(tmp_path: Path) -> None:
    after = AFTER | {"72": {"0": 0.5, "<|im_end|>": 0.5}, "100": {"0": 0.4, "<|im_end|>": 0.6}}
    with judged_by(spelling(after)) as server:
        log = rated(server, tmp_path, free_form(check_judge=False))
    ((_, rating, _),) = ratings(log)
    assert rating.distribution["72"] == pytest.approx(0.2, abs=1e-6)
    assert rating.distribution["100"] == pytest.approx(0.03, abs=1e-6)
    numbers = {"72": 0.2, "40": 0.3, "7": 0.1, "10": 0.15, "100": 0.03}
    mean = sum(int(n) * p for n, p in numbers.items()) / sum(numbers.values())
    assert rating.read().score == pytest.approx(mean, abs=0.01)
    assert rating.read().mass == pytest.approx(0.78, abs=1e-6)


@pytest.mark.parametrize(
    "after",
    [
        AFTER,
        {"": {"10": 0.6, "78": 0.3, "4": 0.1}},  # tokens of two digits: 10 begins 100
    ],
    ids=["digits", "pairs"],
)
def test_asked_for_by_name_one_token_is_refused(after: dict[str, dict[str, float]]) -> None:
    with judged_by(spelling(after)) as server, pytest.raises(UserError, match="would be misread"):
        anyio.run(prepare_judge, judge_of(server), "one_token")


def test_behind_a_server_that_answers_instead_of_continuing_it_is_sampled() -> None:
    async def prepare(model: Model) -> str:
        return (await prepare_judge(model)).estimator

    with judged_by(spelling(AFTER, continues=False)) as server:
        assert anyio.run(prepare, judge_of(server)) == "sampled"
