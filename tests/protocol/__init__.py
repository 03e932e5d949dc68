"""Tests of the protocol layer: pure, without sockets, clocks or files of ours."""

import pytest

pytest.register_assert_rewrite("tests.protocol.dialogue")
