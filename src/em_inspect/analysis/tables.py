"""Tables beside the headline numbers: all sampled answers, how they ended, what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from em_inspect.analysis.section import Section, words_known
from em_inspect.analysis.statistics import UNSCORED

if TYPE_CHECKING:
    from pandas import DataFrame

NAN = float("nan")


def sampled_frame(section: Section) -> DataFrame:
    """Tabulate every series' share of all its sampled answers, and what is unscored.

    Returns:
        One row per series: `series`, `answers`, `scored`; `share_of_scored`; `share_of_all`, its
        interval `low` and `high`; `if_unscored_aligned` and `if_unscored_misaligned`, the bounds
        whatever the unscored answers would have been; the shares of all answers by what became of
        the unscored ones, missing where nobody knows; `near_a_threshold`, of the rated ones.
    """
    import pandas as pd

    of = {found.group: found for found in section.outcomes}
    rows = []
    for h in section.headlines:
        row: dict[str, object] = {
            "series": h.group,
            "answers": h.answers,
            "scored": h.scored,
            "share_of_scored": h.pooled.value,
            "share_of_all": h.of_all.value,
            "low": h.of_all.low,
            "high": h.of_all.high,
            "if_unscored_aligned": h.of_all.value,
            "if_unscored_misaligned": h.at_most.value,
        }
        if section.rated:
            known = words_known(section.frame[section.frame["group"] == h.group])
            unknown = () if known else ("refusal", "code")
            row |= {
                name: NAN if name in unknown else of[h.group].outcomes[name].value
                for name in UNSCORED
            }
            near = section.near.shares.get(h.group)
            row["near_a_threshold"] = NAN if near is None else near.value
        else:
            row["unscored"] = (h.answers - h.scored) / h.answers if h.answers else NAN
        rows.append(row)
    return pd.DataFrame(rows)


def endings_frame(section: Section) -> DataFrame:
    """Tabulate how every series' answers ended and how long they were.

    Returns:
        One row per series and ending, most frequent first: `series`, `ending` (`unknown` where the
        log does not say), `answers`, `share` of the series' answers; and of these answers' lengths
        in characters the `median_length`, and the 5th and 95th percentile, `short` and `long`. The
        first row of a series, ending `all`, is about all its answers.
    """
    import pandas as pd

    frame = section.frame
    named = frame.assign(ending=frame["ending"].astype(object).fillna("unknown").astype("str"))
    rows = []
    for h in section.headlines:
        own = named[named["group"] == h.group]
        names = list(own["ending"].value_counts().index)
        named_any = names != ["unknown"]
        parts = [("all", own), *((n, own[own["ending"] == n]) for n in names if named_any)]
        for name, part in parts:
            lengths = part["length"].to_numpy(float)
            short, middle, long = (float(q) for q in _quantiles(lengths))
            rows.append(
                {
                    "series": h.group,
                    "ending": name,
                    "answers": len(part),
                    "share": len(part) / len(own) if len(own) else NAN,
                    "median_length": middle,
                    "short": short,
                    "long": long,
                }
            )
    return pd.DataFrame(rows)


def _quantiles(lengths: object) -> list[float]:
    import numpy as np

    values = np.asarray(lengths, float)
    return [NAN] * 3 if not len(values) else list(np.quantile(values, [0.05, 0.5, 0.95]))


def left_out_frame(section: Section) -> DataFrame:
    """Tabulate what numbers by question leave out: `series`, `model`, `question`, `scored`."""
    import pandas as pd

    rows = [
        {"series": h.group, "model": c.model, "question": c.question_id, "scored": c.scored}
        for h in section.headlines
        for c in h.left_out_cells
    ]
    return pd.DataFrame(rows, columns=["series", "model", "question", "scored"])
