"""A YAML file is parsed within bounds, and what cannot be parsed is told with its place."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.errors import InputError
from modelmgr.units import MIB
from modelmgr.workload import yaml_tree
from modelmgr.workload.document import MAX_FILE_BYTES, Document, parse_document, read_document
from modelmgr.workload.yaml_tree import MAX_DEPTH, MAX_NODES, Mark
from support.other_users import without_privileges

_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


def _parse(text: str) -> Document:
    return parse_document(text, "file.yaml", what="model list")


_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(categories=["L"]), min_size=1, max_size=8), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(_PLAIN)
def test_any_value_is_read_as_it_was_written_in_json(value: object) -> None:
    """JSON is YAML, so a list may be written by a program too."""
    import json  # noqa: PLC0415 - only here

    assert _parse(json.dumps(value, ensure_ascii=False)).plain() == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("0x1F", 31),
        ("0o17", 15),
        ("-12", -12),
        ("+3", 3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'3'", "3"),
        ("!!str 3", "3"),
        ("500 MiB", "500 MiB"),
        ("|-\n  a\n  b", "a\nb"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = _parse(f"key: {text}\n").plain()
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


def test_keys_are_text_however_they_look() -> None:
    assert _parse("{0: a, true: b, null: c}").plain() == {"0": "a", "true": "b", "null": "c"}


def test_places_are_those_of_an_editor() -> None:
    document = _parse("a: 1\nmodels:\n  - {tag: é, size: 2}\n  - tag: b\n")
    assert document.find(("models", 0, "size")) == Mark(3, 20)
    assert document.find(("models", 0, "size"), on_key=True) == Mark(3, 14)
    assert document.find(("models", 1)) == Mark(4, 5)
    assert document.find(("models", 7)) == Mark(3, 3)
    assert document.find(("models", 1, "tag", "deeper")) == Mark(4, 10)
    assert document.find(()) == Mark(1, 1)


def test_a_merged_key_keeps_the_place_where_it_was_written() -> None:
    document = _parse("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n")
    assert document.plain() == {"base": {"x": 1, "y": 2}, "use": {"y": 3, "x": 1}}
    assert document.find(("use", "x")) == Mark(1, 14)
    assert document.find(("use", "y")) == Mark(4, 6)


def test_several_merged_mappings_yield_to_the_first() -> None:
    document = _parse("- &a {x: 1}\n- &b {x: 2, y: 2}\n- {<<: [*a, *b]}\n")
    assert document.plain() == [{"x": 1}, {"x": 2, "y": 2}, {"x": 1, "y": 2}]


@pytest.mark.parametrize(
    ("text", "line", "column", "problem", "hint"),
    [
        ("a: 1\nb: [1,\n", 3, 1, "not YAML", "that starts in line"),
        ("a:\n\t- b", 2, 1, "not YAML", "spaces, not tabs"),
        ("a: b: c", 1, 5, "mapping values are not allowed", "': '"),
        ("a: 1\n b: 2", 2, 3, "mapping values are not allowed", "indentation"),
        ('a: "\\q"', 1, 5, "unknown escape", ""),
        ("a: @x", 1, 4, "cannot start any token", "quote"),
        ("ab: é\x07", 1, 6, "control character '\\x07'", "remove it"),
        ("a: \x00", 1, 4, "control character '\\x00'", "remove it"),
        ("a: 1\nb: 2\na: 3", 3, 1, "'a' is given twice, first in line 1", "keep one"),
        ("a: *b", 1, 4, "unknown alias '*b'", "quote"),
        ("a: &a [*a]", 1, 8, "what it is a part of", ""),
        ("a: &a {b: {c: *a}}", 1, 15, "what it is a part of", ""),
        ("a: 1\n---\nb: 2", 2, 1, "a second document", "remove this '---'"),
        ("a: !!python/object/apply:os.system [x]", 1, 4, "'!!python/object/apply", "remove"),
        ("a: !!binary aGk=", 1, 4, "'!!binary' is not supported", "remove"),
        ("a: !!int 3", 1, 4, "'!!int' is not supported", "remove"),
        ("? [a]\n: b", 1, 3, "a key must be text", ""),
        ("x: &k t\n*k : b", 2, 1, "a key must be text", ""),
        ("a: {<<: 3}", 1, 9, "'<<' takes a mapping", ""),
        ("a: .inf", 1, 4, "no finite number", "quote"),
        ("a: .NaN", 1, 4, "no finite number", "quote"),
        ("a: 1e999", 1, 4, "too large", "quote"),
        ("a: 9223372036854775808", 1, 4, "too large", "quote"),
        ("[" * 100_000, 1, MAX_DEPTH + 1, "more than 64 levels", ""),
        ("- " * 100_000, 1, 2 * MAX_DEPTH + 1, "more than 64 levels", ""),
        ("[" + "[]," * 200_000 + "]", 1, None, "more than 100000 values", "split"),
        (_BOMB, 6, None, "more than 100000 values, aliases expanded", "fewer aliases"),
    ],
)
def test_what_is_no_document_is_told_with_its_place(
    text: str, line: int, column: int | None, problem: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        _parse(text)
    error = caught.value
    assert problem in error.problem
    assert hint in (error.hint or "")
    assert error.path == "file.yaml"
    assert error.line == line
    assert column in (None, error.column)
    assert len(str(error)) < 400


def test_a_chain_of_aliases_cannot_pass_the_depth() -> None:
    chain = "a0: &a0 [x]\n" + "".join(
        f"a{number}: &a{number} [*a{number - 1}]\n" for number in range(1, 100)
    )
    with pytest.raises(InputError, match="more than 64 levels"):
        _parse(chain)


def test_as_many_values_as_are_allowed_are_read() -> None:
    count = MAX_NODES - 1
    assert _parse("[" + "1," * count + "]").plain() == [1] * count


def test_the_reader_in_python_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML came without libyaml."""
    text = "a: &x {b: [1, é]}\nc: {<<: *x, d: 'no'}\n"
    expected = _parse(text)
    monkeypatch.setattr(yaml_tree, "_LOADER", yaml.SafeLoader)
    assert _parse(text) == expected
    with pytest.raises(InputError, match=r"file\.yaml:1:4: not YAML: the control character"):
        _parse("a: \x07")
    with pytest.raises(InputError, match=r"file\.yaml:2:"):
        _parse("a: 1\nb: [")


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n"])
def test_an_empty_document_is_told_as_one(text: str) -> None:
    with pytest.raises(InputError, match=r"is empty\nwrite a model list into it"):
        _parse(text)


def _read(path: str | Path) -> Document:
    return read_document(path, what="model list")


def test_what_is_wrong_with_a_path_is_said(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("a: 1")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    (tmp_path / "image.yaml").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "utf16.yaml").write_text("a: 1", encoding="utf-16")
    cases = {
        "model.yaml": r"there is no such model list\ndid you mean '.*models\.yaml'\?",
        "no/model.yaml": r"there is no such model list\nthere is no folder '.*/no' either",
        "models.yaml/x": "part of its path is a file",
        "": "is a folder, not a model list",
        "latin.yaml": r":2:7: is not UTF-8 text: byte 0xe9\nsave the file as UTF-8",
        "image.yaml": r":1:1: is not UTF-8 text",
        "utf16.yaml": r":1:1: is not UTF-8 text",
        "x" * 300: "File name too long",
        "a\0b": "is no file name",
    }
    for name, problem in cases.items():
        with pytest.raises(InputError, match=problem):
            _read(f"{tmp_path}/{name}")
    with pytest.raises(InputError, match="is no file name"):
        _read("")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert _read(path).plain() == {"a": 1}


def test_a_file_without_permission_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with (
        without_privileges(),
        pytest.raises(InputError, match="no permission to read this model list"),
    ):
        _read(path)


def test_a_pipe_is_read_to_its_end_and_an_empty_one_does_not_hang(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"a: [1, 2]")
    os.close(write_end)
    assert _read(f"/dev/fd/{read_end}").plain() == {"a": [1, 2]}
    os.close(read_end)
    os.mkfifo(tmp_path / "nobody-writes")
    with pytest.raises(InputError, match="is empty"):
        _read(tmp_path / "nobody-writes")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_an_endless_file_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"endless or too large|is empty"):
        _read(name)


def test_a_file_at_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(b"a: 1".ljust(MAX_FILE_BYTES))
    assert _read(path).plain() == {"a": 1}
    path.write_bytes(b"a: 1".ljust(MAX_FILE_BYTES + 1))
    with pytest.raises(InputError, match=r"has at most 4\.0 MiB"):
        _read(path)


def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    """In a process that could not hold what they expand to, nor the file of 100 MB itself."""
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    laughs = tmp_path / "laughs.yaml"
    laughs.write_text(_BOMB)
    nested = tmp_path / "nested.yaml"
    nested.write_text("[" * 4_000_000)
    wide = tmp_path / "wide.yaml"
    wide.write_text("[" + "[]," * 1_300_000 + "]")
    program = (
        "import resource, sys\n"
        "from modelmgr.errors import InputError\n"
        "from modelmgr.workload.model_list import read_model_list\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        read_model_list(path)\n"
        "    except InputError as error:\n"
        "        print(error.problem)\n"
    )
    finished = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, *map(str, (large, laughs, nested, wide))],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (192 * MIB, 192 * MIB)),
    )
    assert finished.stdout.splitlines() == [
        "is 95.4 MiB large; a model list has at most 4.0 MiB",
        "more than 100000 values, aliases expanded",
        "more than 64 levels of lists and mappings",
        "more than 100000 values, aliases expanded",
    ]
    assert finished.stderr == ""
