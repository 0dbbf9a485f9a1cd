"""Errors carry field, value and action, also across processes."""

from __future__ import annotations

import pickle

from endcap.errors import BatchRejected, EndcapError, InputError


def test_the_message_names_field_value_and_action() -> None:
    error = InputError("is not a number", field="price", value="a dozen", action="Give a number.")
    assert str(error) == "price: is not a number; got 'a dozen'. Give a number."


def test_a_long_value_is_cut() -> None:
    assert len(str(EndcapError("too long", field="title", value="x" * 10_000))) < 200


def test_an_error_survives_the_way_to_another_process() -> None:
    error = BatchRejected("was refused", field="batch", value="file-1", action="See the report.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is BatchRejected
    assert (str(copy), copy.field, copy.value, copy.action) == (str(error), "batch", "file-1", "See the report.")
