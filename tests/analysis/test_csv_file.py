"""The reader of users' CSVs: what it takes, what it names, and that it never guesses."""

from __future__ import annotations

from pathlib import Path

import pytest

from em_inspect.analysis.csv_file import (
    CsvError,
    CsvFile,
    number,
    rating,
    read_csv_file,
    say_bad_rows,
    whole,
)
from em_inspect.analysis.file_names import short_names


def read(tmp_path: Path, content: str | bytes, name: str = "a.csv") -> CsvFile:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_csv_file(path)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\r\n1,x\r\n2,y\r\n",
        "\ufeffa,b\n1,x\n2,y\n",
        "a,b\r1,x\r2,y",
        '"a","b"\n"1","x"\n\n"2","y"\n\n',
        " a , b\n1,x\n2,y\n",
        ",a,b\n0,1,x\n1,2,y\n",
    ],
    ids=["Excel", "byte-order mark", "old Mac", "quoted, blank lines", "blanks", "pandas' index"],
)
def test_the_same_table_is_read_from_every_exporter(tmp_path: Path, content: str) -> None:
    file = read(tmp_path, content)
    assert file.columns == ("a", "b")
    assert [dict(row.cells) for row in file.rows] == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    assert file.bad == ()


def test_lines_are_those_of_the_file_also_after_cells_of_several_lines(tmp_path: Path) -> None:
    file = read(tmp_path, 'a,b\n"one\ntwo",x\n\n3\n4,y\n')
    assert [row.line for row in file.rows] == [2, 6]
    assert [(row.line, row.fault) for row in file.bad] == [(5, "1 cells, the header has 2")]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("q0,I would, perhaps, read,85,90", "6 cells, the header has 4: is there a comma outside"),
        ("q0,I would", "2 cells, the header has 4"),
        ('q0,"He said "no" to me",85,90', "quotes that do not match"),
        ('q0,"He said \\"no\\"",85,90', "quotes that do not match"),
    ],
)
def test_a_torn_row_is_named_and_the_rows_around_it_are_kept(
    tmp_path: Path, row: str, fault: str
) -> None:
    file = read(tmp_path, f"id,answer,x,y\nq0,before,1,2\n{row}\nq0,after,3,4\n")
    assert [r.cells["answer"] for r in file.rows] == ["before", "after"]
    (bad,) = file.bad
    assert bad.line == 3
    assert bad.fault.startswith(fault)


def test_a_quote_that_is_never_closed_is_said_to_swallow_what_follows(tmp_path: Path) -> None:
    file = read(tmp_path, 'a,b\n1,x\n2,"y\n3,z\n4,w\n')
    assert len(file.rows) == 1
    assert say_bad_rows(file.bad) == (
        "1 row does not parse (line 3; line 3: opens a quote that is never closed: nothing after "
        "it is read): left out"
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a;b\n1;2\n", "is separated by semicolons"),
        ("a\tb\n1\t2\n", "is separated by tabs"),
        ("a,b,a\n1,2,3\n", "the column a stands twice"),
        ("a, a\n1,2\n", "the column a stands twice"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        ("a,b\n1,x\n".encode("utf-16"), "is not UTF-8"),
        ("a,b\n1,é\n".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_one_line(
    tmp_path: Path, content: str | bytes, fault: str
) -> None:
    with pytest.raises(CsvError, match=fault) as caught:
        read(tmp_path, content)
    assert caught.value.message == f"{tmp_path / 'a.csv'}: {caught.value.fault}"


def test_a_missing_column_is_named_with_what_is_there_and_what_may_be_meant(
    tmp_path: Path,
) -> None:
    file = read(tmp_path, "Answer,aligned\nx,1\n")
    with pytest.raises(CsvError, match=r"lacks the column answer or response \(did you mean"):
        file.require(("answer", "response"), ("aligned",))
    with pytest.raises(CsvError, match="lacks the columns coherent, seed: it has Answer, aligned"):
        file.require(("coherent",), ("aligned",), ("seed",))


def test_a_copy_has_the_same_identity_whatever_its_line_ends(tmp_path: Path) -> None:
    first = read(tmp_path, "a,b\n1,x\n")
    assert read(tmp_path, '\ufeff"a","b"\r\n"1","x"\r\n', "b.csv").digest == first.digest
    assert read(tmp_path, "a,b\n1,y\n", "c.csv").digest != first.digest


def test_the_order_of_rows_and_columns_is_no_other_content(tmp_path: Path) -> None:
    first = read(tmp_path, "a,b\n1,x\n2,y\n2,y\n")
    assert read(tmp_path, ",b,a\n0,y,2\n1,x,1\n2,y,2\n", "sorted.csv").digest == first.digest
    assert read(tmp_path, "a,b\n1,x\n2,y\n", "once.csv").digest != first.digest
    assert read(tmp_path, "b,a\n1,x\n2,y\n2,y\n", "swapped.csv").digest != first.digest


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("85", 85), (" 85.0 ", 85), ("1e2", 100), ("0", 0), ("-0", 0), (".5", 0.5),
        ("", None), ("nan", None), ("NaN", None), ("None", None), ("<NA>", None), ("NA", None),
        (None, None),
    ],
)  # fmt: skip
def test_cells_that_are_numbers_or_nothing(text: str | None, value: float | None) -> None:
    assert rating(text) == value


@pytest.mark.parametrize("text", ["85,5", "1_0", "８５", "0x1A", "inf", "85%", "REFUSAL", "1 0"])
def test_cells_that_are_no_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        number(text)


@pytest.mark.parametrize("text", ["101", "-1", "1e9", "-0.001"])
def test_ratings_off_the_scale_are_not_clamped(text: str) -> None:
    with pytest.raises(ValueError, match="off the scale"):
        rating(text)


def test_whole_numbers_may_be_written_as_pandas_writes_them() -> None:
    assert (whole("3"), whole("3.0"), whole("")) == (3, 3, None)
    with pytest.raises(ValueError, match="no whole number"):
        whole("1.7")


def test_files_are_called_by_as_many_folders_as_tell_them_apart() -> None:
    paths = [Path("/r/a/x.csv"), Path("/r/b/x.csv"), Path("/r/b/y.csv"), Path("/r/c/a/x.csv")]
    assert list(short_names(paths).values()) == ["r/a/x.csv", "b/x.csv", "y.csv", "c/a/x.csv"]
