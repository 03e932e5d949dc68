"""The secret of an instance."""

from pathlib import Path

from mailsrv.store.secret import SECRET_OCTETS, read_secret, write_secret


def test_a_secret_is_for_its_owner_alone_and_never_the_same(tmp_path: Path) -> None:
    secrets = set()
    for name in ("one", "other"):
        write_secret(tmp_path / name)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        secrets.add(read_secret(tmp_path / name))
    assert len(secrets) == 2
    assert {len(secret or b"") for secret in secrets} == {SECRET_OCTETS}


def test_what_is_missing_too_short_or_unreadable_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    for name in ("missing", "short", "."):
        assert read_secret(tmp_path / name) is None
