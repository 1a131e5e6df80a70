"""The metadata by which a call says which trace it belongs to."""

import pytest

from server.trace import Span, parent

_TRACE, _SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{_TRACE}-{_SPAN}-01", True),
        (f"00-{_TRACE}-{_SPAN}-00", False),
        (f"00-{_TRACE}-{_SPAN}-03", True),
        # Of a later version.
        (f"01-{_TRACE}-{_SPAN}-01-more", True),
        (f"01-{_TRACE}-{_SPAN}-01", True),
    ],
)
def test_a_parent_is_read(value: str, sampled: bool) -> None:
    assert parent((("user-agent", "grpc"), ("traceparent", value))) == Span(_TRACE, _SPAN, sampled)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [f"ff-{_TRACE}-{_SPAN}-01"],
        [f"00-{_TRACE}-{_SPAN}-01-more"],
        [f"01-{_TRACE}-{_SPAN}-01more"],
        [f"00-{_TRACE.upper()}-{_SPAN}-01"],
        [f"00-{'0' * 32}-{_SPAN}-01"],
        [f"00-{_TRACE}-{'0' * 16}-01"],
        [f"00-{_TRACE}-{_SPAN}-1"],
        [f"00-{_TRACE}-{_SPAN}-01\n"],
        [f"00-{_TRACE}-{_SPAN}-01"] * 2,
        [f"00-{_TRACE}-{_SPAN}-01".encode()],
    ],
)
def test_what_is_none_is_taken_for_none(values: list[str | bytes]) -> None:
    assert parent([("traceparent", value) for value in values]) is None
