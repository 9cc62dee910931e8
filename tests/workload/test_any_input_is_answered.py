"""Whatever a file holds, the answer is a result or an InputError, never another exception."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.errors import InputError
from modelmgr.records.codec import decode_costs
from modelmgr.workload.model_list import parse_model_list

_LIST = """\
schema_version: 1
defaults: {dtype: float32, batch_size: [1, 8]}
models:
- &a {tag: a, loader: transformers, architecture: bert, input: {batch_size: [1, 4]}}
- {tag: c, loader: torch, model: m.pt, arguments: [{shape: [batch_size, 3]}, {value: 1}]}
- {tag: g, loader: synthetic, options: {resident: 500 MiB, load: 300 ms}}
"""
_COSTS = """\
{"schema_version": 1, "kind": "modelmgr.costs", "created_at": "2026-01-01T00:00:00Z",
 "tool": {"name": "modelmgr", "version": "0.1.0"},
 "machine": {"os": "Linux", "cpu": null, "python": "3.11", "packages": {},
  "device": {"kind": "host", "name": null, "total_bytes": null}},
 "models": {"bert": {"initial_estimate_bytes": 5, "peak_bytes": {"value": 1, "evidence": "exact"},
  "shapes": [{"batch_size": 1, "activation_bytes": null}]}}}
"""
# Characters that mean something to one of the two formats, so that edits hit their structure.
_EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 12),
        st.text("[]{}:,-&*!|>#%@`\"'\\\n\t ~<é0123456789.eaxntu\0\x85\u2028", max_size=6),
    ),
    min_size=1,
    max_size=4,
)


def _edit(text: str, edits: list[tuple[float, int, str]]) -> str:
    for share, removed, inserted in edits:
        at = int(share * len(text))
        text = text[:at] + inserted + text[at + removed :]
    return text


def _decode(text: str) -> object:
    return decode_costs(text.encode(), path="file")


@pytest.mark.parametrize(("read", "good"), [(parse_model_list, _LIST), (_decode, _COSTS)])
def test_an_edited_file_is_read_or_refused_with_a_place(
    read: Callable[[str], object], good: str
) -> None:
    read(good)

    @given(_EDITS)
    def check(edits: list[tuple[float, int, str]]) -> None:
        refused: list[InputError] = []
        try:
            read(_edit(good, edits))
        except InputError as error:
            refused.append(error)
        for told in refused:
            assert told.problem
            assert len(str(told)) < 1_000
            assert told.line is None or told.line >= 1
            assert told.column is None or told.column >= 1

    check()


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        parse_model_list(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_database_or_an_input_error(content: bytes) -> None:
    with contextlib.suppress(InputError):
        decode_costs(content)
