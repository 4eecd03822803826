"""A judge that gives no log-probabilities (null, 403, 400) is sampled, and never a number else."""

from __future__ import annotations

from pathlib import Path

import pytest
from canned_judges import Replying, judged_by, rated, ratings, refusing_log_probabilities, saying

from em_inspect.errors import UserError
from em_inspect.judging.judge import prepare_judge
from em_inspect.tasks.free_form import free_form

NOT_ALLOWED = "This model may not be asked for logprobs"
UNSUPPORTED = "The parameter 'logprobs' is unknown to this model."


def steady(reply: str) -> Replying:
    return refusing_log_probabilities(400, UNSUPPORTED, saying(reply))


def varied() -> Replying:
    return saying("60", "70", "80", "70", "90")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("reply", "score", "error"),
    [
        # 74 with a deviation of 11.4018: 60, 70, 80, 70, 90 in whatever order they come
        (varied(), 74.0, 11.401754250991381 / 5**0.5),
        (refusing_log_probabilities(403, NOT_ALLOWED, varied()), 74.0, 11.401754250991381 / 5**0.5),
        (steady("20"), 20.0, 0.0),
    ],
    ids=["null", "403", "400"],
)
def test_it_is_sampled(tmp_path: Path, reply: Replying, score: float, error: float) -> None:
    with judged_by(reply) as server:
        log = rated(server, tmp_path, free_form(check_judge=False))
    ((metadata, *both),) = ratings(log)
    for rating in both:
        assert (rating.estimator, rating.samples, rating.reason()) == ("sampled", 5, None)
        assert rating.read().score == pytest.approx(score)
        assert rating.stderr == pytest.approx(error)
    assert metadata["outcome"] == ("incoherent" if score < 50 else "aligned")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (varied(), "gives no log-probabilities"),
        (refusing_log_probabilities(403, NOT_ALLOWED, varied()), NOT_ALLOWED),
        (steady("20"), UNSUPPORTED),
    ],
    ids=["null", "403", "400"],
)
def test_read_off_one_token_it_is_refused_in_the_service_s_words(reply: Replying, why: str) -> None:
    import anyio
    from inspect_ai.model import get_model

    with judged_by(reply) as server:
        judge = get_model(
            "openai-api/fake/judge",
            base_url=server.url,
            api_key="sk-loopback-only",
            memoize=False,
        )
        with pytest.raises(UserError, match="use -T estimator=auto") as raised:
            anyio.run(prepare_judge, judge, "one_token")
    assert why in str(raised.value)
    assert "does not answer" not in str(raised.value)
