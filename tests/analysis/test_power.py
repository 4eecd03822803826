"""Power: designs judged by the report's own rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from answers import answers
from click.testing import CliRunner

from em_inspect.analysis.commands import power as command
from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.frame import to_frame
from em_inspect.analysis.power import Assumptions, from_pilot, power, smallest
from em_inspect.errors import UserError


def test_power_grows_with_seeds_and_with_answers() -> None:
    assumed = Assumptions(0.05)
    few, more_seeds, more_answers = (power(assumed, k, n) for k, n in ((3, 10), (8, 10), (3, 100)))
    assert few < more_seeds
    assert few < more_answers


def test_no_difference_is_found_about_as_rarely_as_promised() -> None:
    almost_none = Assumptions(0.1000001, 0.1, spread=0.3)
    assert power(almost_none, 6, 50) <= 0.05


def test_a_pilot_gives_shares_and_the_spread_between_its_models() -> None:
    frame = to_frame(
        [
            *answers("b", "q0", 0, 100, group="base"),
            *answers("i0", "q0", 10, 90, group="insecure"),
            *answers("i1", "q0", 30, 70, group="insecure"),
            *answers("i2", "q0", 20, 80, group="insecure"),
        ]
    )
    found, notes = from_pilot(frame, "insecure", "base", Criterion())
    assert found.share == pytest.approx(0.2)
    assert found.reference == 0
    within = (0.09 + 0.21 + 0.16) / 3 / 100
    assert found.spread == pytest.approx((0.01 - within) ** 0.5 / 0.2)
    assert notes == ["spread between seeds (0.46) estimated from 3 models"]


def test_a_pilot_s_answer_formats_are_no_one_share() -> None:
    frame = to_frame(
        [
            *answers("b", "q0", 0, 9, group="base"),
            *answers("i", "q0", 3, 6, group="insecure"),
            *answers("i", "q0_json", 9, 0, group="insecure", format="json"),
            *answers("b", "q0_json", 0, 9, group="base", format="json"),
        ]
    )
    assert from_pilot(frame, "insecure", "base", Criterion())[0].share == pytest.approx(3 / 9)


def test_a_pilot_of_one_model_says_what_was_assumed() -> None:
    frame = to_frame(
        [*answers("b", "q0", 0, 9, group="base"), *answers("i", "q0", 3, 6, group="insecure")]
    )
    found, notes = from_pilot(frame, "insecure", "base", Criterion())
    assert found.spread == 0.6
    assert "assumed (0.6)" in notes[0]


def test_a_seed_s_checkpoints_are_no_pilot_of_several_seeds() -> None:
    parts = [answers("b", "q0", 0, 100, group="base")]
    for step, hits in ((10, 1), (20, 5), (30, 12), (None, 20)):
        own = {"group": "insecure", "seed": 0, "step": step}
        parts.append(answers(f"i step {step}", "q0", hits, 100 - hits, **own))
    frame = to_frame(a for part in parts for a in part)
    with pytest.raises(UserError, match=r"insecure under 4 conditions.*'insecure · step 20'"):
        from_pilot(frame, "insecure", "base", Criterion())
    found, notes = from_pilot(frame, "insecure · step 30", "base", Criterion())
    assert found.share == pytest.approx(0.12)
    assert "the pilot has one model" in notes[0]


def test_a_pilot_of_a_backdoor_is_of_one_arm() -> None:
    parts = []
    for seed in range(3):
        for arm, hits in (("triggered", 30 + 10 * seed), ("untriggered", 0)):
            own = {"group": "backdoor", "seed": seed, "arm": arm}
            parts.append(answers(f"m{seed}", "q0", hits, 100 - hits, **own))
    frame = to_frame(a for part in parts for a in part)
    with pytest.raises(UserError, match="2 conditions"):
        from_pilot(frame, "backdoor", "backdoor", Criterion())
    on, off = "backdoor · triggered", "backdoor · untriggered"
    found, _ = from_pilot(frame, on, off, Criterion())
    assert (found.share, found.reference) == (pytest.approx(0.4), 0.0)


def test_arms_of_the_same_models_are_said_to_be_paired_in_the_report_alone() -> None:
    parts = [
        answers(f"m{seed}", "q0", hits, 100 - hits, group="backdoor", seed=seed, arm=arm)
        for seed, off in enumerate((10, 40, 70))
        for arm, hits in (("triggered", off + 10), ("untriggered", off))
    ]
    frame = to_frame(a for part in parts for a in part)
    _, notes = from_pilot(frame, "backdoor · triggered", "backdoor · untriggered", Criterion())
    assert "both sides are the same models" in notes[-1]


def test_models_that_differ_no_more_than_by_chance_show_no_spread_to_plan_with() -> None:
    parts = [answers(f"i{seed}", "q0", 20, 80, group="insecure", seed=seed) for seed in range(3)]
    frame = to_frame(a for part in [answers("b", "q0", 0, 9, group="base"), *parts] for a in part)
    found, notes = from_pilot(frame, "insecure", "base", Criterion())
    assert found.spread == 0.6
    assert notes == [
        "spread between seeds assumed (0.6): the pilot's 3 models differ no more than by chance"
    ]


def test_one_seed_at_two_addresses_is_one_seed_of_a_pilot() -> None:
    frame = to_frame(
        [
            *answers("b", "q0", 0, 100, group="base"),
            *answers("hf/i", "q0", 10, 90, group="insecure", seed=0),
            *answers("vllm/i", "q0", 30, 70, group="insecure", seed=0),
        ]
    )
    found, notes = from_pilot(frame, "insecure", "base", Criterion())
    assert found.share == pytest.approx(0.2)
    assert "the pilot has one model" in notes[0]


def test_the_smallest_design_has_the_fewest_answers() -> None:
    table = {(1, 10): 0.99, (2, 100): 0.9, (6, 25): 0.85, (3, 50): 0.85, (10, 10): 0.2}
    assert smallest(table, 0.8) == (3, 50)
    assert smallest(table, 0.95) is None


def test_the_command_prints_designs(logs: Path, groups: Path) -> None:
    common = ["--seeds", "2,6", "--samples", "10,50"]
    done = CliRunner().invoke(command, ["--share", "0.2", *common])
    assert done.exit_code == 0, done.output
    assert "Fewest answers for 80%" in done.output
    pilot = ["--pilot", str(logs), "--groups", str(groups), *common]
    done = CliRunner().invoke(command, pilot)
    assert done.exit_code == 0, done.output
    assert "estimated from 2 models" in done.output
    assert "Estimated from the pilot: " in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either --share"),
        (["--share", "3"], "is no share"),
        (["--share", "0"], "no difference to find"),
        (["--share", "0.1", "--seeds", "two"], "whole numbers"),
    ],
)
def test_a_mistake_is_said_in_a_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code != 0
    assert said in done.output


def test_a_group_that_is_not_there_is_said() -> None:
    frame = to_frame(answers("b", "q0", 0, 9, group="base"))
    with pytest.raises(UserError, match="no group 'insecure' in the pilot"):
        from_pilot(frame, "insecure", "base", Criterion())
