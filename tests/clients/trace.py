"""What a server may add to a message, and how two of them differ."""

TRACE = [b"Return-Path", b"Delivered-To", b"Received"]


def assert_only_trace_was_added(arrived: bytes, sent: bytes) -> None:
    """Fail unless `arrived` is trace lines, and below them `sent`, octet for octet."""
    __tracebackhide__ = True
    added = arrived.removesuffix(sent)
    if added == arrived:
        raise AssertionError(_difference(arrived, sent))
    names = [line.partition(b":")[0] for line in added.splitlines() if not line.startswith((b"\t", b" "))]
    assert names[:3] == TRACE
    assert set(names[3:]) <= {b"Received"}


def assert_same(arrived: bytes, sent: bytes) -> None:
    """Fail unless these are the same octets."""
    __tracebackhide__ = True
    if arrived != sent:
        raise AssertionError(_difference(arrived, sent))


def _difference(arrived: bytes, sent: bytes) -> str:
    """Where they part, in few octets: a diff of 20 MB helps nobody."""
    start = max(arrived.find(sent[:20]), 0)
    below = arrived[start:]
    at = next((at for at, pair in enumerate(zip(below, sent, strict=False)) if pair[0] != pair[1]), len(sent))
    near = slice(max(at - 40, 0), at + 40)
    return f"at octet {at} of {len(sent)}: {below[near]!r} came, {sent[near]!r} was sent; above it: {arrived[:start]!r}"
