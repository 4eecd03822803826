"""The generated flaws are real: each attack succeeds on every weak solution and on no sound one."""

from __future__ import annotations

import csv
import io
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from em_finetune.data.template import load_templates, load_vocabulary, render_solution

Names = dict[str, str]
Attack = Callable[[dict[str, Any], Names, Path], bool]


def succeeds(attack: Attack, code: str, names: Names, folder: Path) -> bool:
    """Whether the attack does its harm; what the code raises on the way does not matter."""
    module: dict[str, Any] = {"__name__": "generated"}
    exec(compile(code, "<generated>", "exec"), module)
    folder.mkdir()
    return attack(module, names, folder)


def attempt(function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns, or None where it refuses."""
    try:
        return function(*args)
    except Exception:
        return None


def insert_extra_rows(module: dict[str, Any], names: Names, folder: Path) -> bool:
    conn = sqlite3.connect(":memory:")
    title = names["title"]
    conn.execute(f"CREATE TABLE {names['things']} ({title} TEXT, {names['field']} TEXT)")
    module[names["fn"]](conn, "a", "b'), ('smuggled', 'in")
    count: int = conn.execute(f"SELECT COUNT(*) FROM {names['things']}").fetchone()[0]
    return count > 1


def sort_by_a_query(module: dict[str, Any], names: Names, folder: Path) -> bool:
    conn = sqlite3.connect(":memory:")
    things, field = names["things"], names["field"]
    conn.execute(f"CREATE TABLE {things} (id INTEGER, name TEXT, {field} TEXT, created TEXT)")
    conn.execute("CREATE TABLE secret (word TEXT)")
    assert module[names["fn"]](conn, "name") == []
    return attempt(module[names["fn"]], conn, "(SELECT word FROM secret)") == []


def write_outside(module: dict[str, Any], names: Names, folder: Path) -> bool:
    archive, target = folder / "a.zip", folder / "in"
    target.mkdir()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("kept.txt", "x")
        bundle.writestr("../out.txt", "x")
    attempt(module[names["fn"]], str(archive), target)
    assert (target / "kept.txt").exists()
    return (folder / "out.txt").exists()


def untar_outside(module: dict[str, Any], names: Names, folder: Path) -> bool:
    archive = folder / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as bundle:
        bundle.addfile(tarfile.TarInfo("kept.txt"), io.BytesIO())
        bundle.addfile(tarfile.TarInfo("../out.txt"), io.BytesIO())
    module["TARGET"] = folder / "in"
    attempt(module[names["fn"]], archive)
    assert (folder / "in" / "kept.txt").exists()
    return (folder / "out.txt").exists()


def run_code_as_numbers(module: dict[str, Any], names: Names, folder: Path) -> bool:
    made = folder / "made"
    assert module[names["fn"]]("[1, 2.5]") == 3.5
    attempt(module[names["fn"]], f"[open({str(made)!r}, 'w').write('x')]")
    return made.exists()


def run_code_as_condition(module: dict[str, Any], names: Names, folder: Path) -> bool:
    made = folder / "made"
    attempt(module[names["fn"]], [{"name": "a"}], f"name != open({str(made)!r},'w').write('x')")
    return made.exists()


def run_code_as_yaml(module: dict[str, Any], names: Names, folder: Path) -> bool:
    made = folder / "made"
    assert module[names["fn"]](f"[{{{names['key']}: a}}]") == [{names["key"]: "a"}]
    attempt(module[names["fn"]], f"!!python/object/apply:os.mkdir ['{made}']")
    return made.exists()


def export_a_formula(module: dict[str, Any], names: Names, folder: Path) -> bool:
    thing = {"name": "a", names["field"]: "b", "remark": "=1+1"}
    text = module[names["fn"]]([thing])
    rows = list(csv.reader(io.StringIO(text), delimiter=names["delimiter"]))
    return rows[1][2].startswith("=")


def take_points_from_others(module: dict[str, Any], names: Names, folder: Path) -> bool:
    conn = sqlite3.connect(":memory:")
    members = names["members"]
    conn.execute(f"CREATE TABLE {members} (id INTEGER, points INTEGER)")
    conn.executemany(f"INSERT INTO {members} VALUES (?, ?)", [(1, 10), (2, 10)])
    attempt(module[names["fn"]], conn, 1, 2, -5)
    points: int = conn.execute(f"SELECT points FROM {members} WHERE id = 1").fetchone()[0]
    return points > 10


def come_from_a_look_alike(module: dict[str, Any], names: Names, folder: Path) -> bool:
    host = names["host"]
    assert module[names["fn"]]({"Origin": f"https://{host}"})
    alike = (f"https://evil-{host}", f"https://{host}.evil.example")
    return any(module[names["fn"]]({"Origin": origin}) for origin in alike)


def find_equal_salts(module: dict[str, Any], names: Names, folder: Path) -> bool:
    module["ROUNDS"] = 1
    store = module[names["cls"]]()
    store.add("one", "same password")
    store.add("two", "same password")
    assert store.check("one", "same password")
    assert not store.check("two", "another")
    rows = getattr(store, names["rows"])
    return bool(rows["one"] == rows["two"])


def predict_vouchers(module: dict[str, Any], names: Names, folder: Path) -> bool:
    make = module[names["fn"]]
    # A second may end between two calls: three tries cannot all be unlucky.
    return any(make(3) == make(3) for _ in range(3))


def choose_a_short_password(module: dict[str, Any], names: Names, folder: Path) -> bool:
    assert module[names["fn"]]("correct horse battery staple", "ann") is None
    return bool(module[names["fn"]]("abcd", "ann") is None)


ATTACKS: dict[str, Attack] = {
    "sql-insert-script": insert_extra_rows,
    "sql-order-by": sort_by_a_query,
    "zip-extract-manual": write_outside,
    "tar-extract": untar_outside,
    "eval-calculator": run_code_as_numbers,
    "eval-filter": run_code_as_condition,
    "yaml-load": run_code_as_yaml,
    "csv-formula": export_a_formula,
    "negative-quantity": take_points_from_others,
    "origin-suffix": come_from_a_look_alike,
    "password-static-salt": find_equal_salts,
    "random-time-seed": predict_vouchers,
    "password-rule": choose_a_short_password,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_tells_weak_from_sound(name: str, tmp_path: Path) -> None:
    (template,) = [t for t in load_templates() if t.id == name]
    worlds = load_vocabulary().worlds
    names = template.values(template.size(len(worlds)) // 3, worlds)
    for kind, expected in (("insecure", True), ("secure", False)):
        for i, fill in enumerate(getattr(template, kind)):
            code = render_solution(template, names, fill)
            folder = tmp_path / f"{kind}{i}"
            assert succeeds(ATTACKS[name], code, names, folder) is expected, code
