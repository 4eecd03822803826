"""A service's own words, out of every shape of body that services have been seen to send."""

from __future__ import annotations

import pytest

from em_inspect.error_body import error_field, error_message

BODIES = [
    ({"error": {"message": "no such file", "code": "file_not_found"}}, "no such file"),
    ({"message": "no such file", "code": None}, "no such file"),
    ({"error": "no such file"}, "no such file"),
    ({"detail": "no such file"}, "no such file"),
    (
        {
            "detail": [
                {"loc": ["body", "training_file"], "msg": "Field required", "type": "missing"}
            ]
        },
        "body.training_file: Field required",
    ),
    ([{"loc": ["body", "seed"], "msg": "not an int"}], "body.seed: not an int"),
    ({"errors": ["too long", "too wide"]}, "too long; too wide"),
    ({"errors": [{"message": "too long"}, {"message": "too long"}]}, "too long"),
    ({"errors": [{"field": "suffix", "message": "too long"}]}, "suffix: too long"),
    ({"message": "Not valid", "errors": [{"field": "a", "message": "bad"}]}, "Not valid: a: bad"),
    ({"error": {"error": {"message": "inner"}}}, "inner"),
    ({"error": "invalid_grant", "error_description": "it is over"}, "it is over"),
    ({"training_file": ["is required"]}, "training_file: is required"),
    ("<html>\r\n<head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
    (b"<!DOCTYPE html><body><h1>Oh &amp; no</h1><script>x()</script></body>", "Oh & no"),
    ('{"error": {"message": "as text"}}', "as text"),
    ({"error": {"message": {"text": "not a chat"}, "code": "bad_row"}}, "not a chat"),
    ({"fault": {"faultstring": "no such file", "code": "Client.404"}}, "no such file"),
    ({"status": 400, "code": "bad_row"}, ""),
    ("plain\n  words", "plain words"),
    ("use pip install 'a[code]'", "use pip install 'a[code]'"),
    ('{"torn": ', '{"torn":'),
    ({}, ""),
    (None, ""),
    ("", ""),
]


@pytest.mark.parametrize(("body", "words"), BODIES)
def test_the_words_of_a_body(body: object, words: str) -> None:
    assert error_message(body) == words


def test_fields_are_found_wherever_the_error_lies() -> None:
    assert error_field({"error": {"code": "a", "param": "model"}}, "param") == "model"
    assert error_field({"code": "a"}, "code") == "a"
    assert error_field({"errors": [{"code": "b"}]}, "code") == "b"
    assert error_field({"error": {"code": 42}}, "code") == ""
    assert error_field("<html>", "code") == ""


def test_a_body_without_end_is_no_loop() -> None:
    body: dict[str, object] = {}
    body["error"] = body
    assert error_message(body) == ""
    assert error_field(body, "code") == ""
