"""Reading access tokens, and keeping tokens on disk for their owner alone."""

import base64
import json
import os
import stat

import pytest
import structlog
from pydantic import SecretStr

from src.venues.stockbit.simulator.accounts import make_token
from src.venues.stockbit.token_file import NAME, TokenFile
from src.venues.stockbit.tokens import TokenError, Tokens, check_refresh, clean, read_claims

NOW_MS = 1_770_000_000_000


def token(payload, *, pad=False):
    middle = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode()
    return f"eyJhbGciOiJSUzI1NiJ9.{middle if pad else middle.rstrip('=')}.c2ln"


GOOD = {"data": {"uid": 1234567, "use": "me", "ema": "me@example.org"}, "exp": 1_770_086_400, "iat": 1_770_000_000}


class TestClaims:
    def test_what_is_read(self):
        claims = read_claims(token(GOOD))
        assert claims.user_id.get_secret_value() == "1234567"
        assert (claims.expires_ms, claims.issued_ms) == (1_770_086_400_000, NOW_MS)

    @pytest.mark.parametrize("length", range(4))
    def test_padding_may_be_missing_or_there(self, length):
        payload = GOOD | {"x": "y" * length}
        for pad in (True, False):
            assert read_claims(token(payload, pad=pad)).expires_ms == 1_770_086_400_000

    def test_the_number_may_be_text_and_the_birth_unknown(self):
        claims = read_claims(token({"data": {"uid": "77"}, "exp": 1_770_086_400.5}))
        assert claims.user_id.get_secret_value() == "77"
        assert claims.issued_ms is None

    @pytest.mark.parametrize(
        "wrong",
        [
            "",
            "x",
            "a.b",
            "a.b.c.d",
            "a..c",
            "a.%%.c",
            "a.e30.c",
            "a.bm90anNvbg.c",
            "a.W10.c",
            "a." + "A" * 9000 + ".c",
            token({"exp": 1_770_086_400}),
            token({"data": {"uid": 0}, "exp": 1_770_086_400}),
            token({"data": {"uid": -5}, "exp": 1_770_086_400}),
            token({"data": {"uid": "12x"}, "exp": 1_770_086_400}),
            token({"data": {"uid": 10**30}, "exp": 1_770_086_400}),
            token({"data": {"uid": 7}}),
            token({"data": {"uid": 7}, "exp": 1e300}),
            token({"data": {"uid": 7}, "exp": -1}),
            token({"data": None, "exp": 1_770_086_400}),
            token({"data": {"uid": True}, "exp": 1_770_086_400}),
        ],
    )
    def test_what_is_no_token_says_why_without_repeating_it(self, wrong):
        with pytest.raises(TokenError) as caught:
            read_claims(wrong)
        assert len(wrong) < 12 or wrong[:12] not in str(caught.value)
        assert "token" in str(caught.value)

    def test_what_people_paste_is_cleaned(self):
        assert clean("  'Bearer abc.def.ghi'\n") == "abc.def.ghi"
        assert clean("bearer  abc") == "abc"

    def test_a_refresh_token_is_any_plain_text(self):
        assert check_refresh("rt-1").get_secret_value() == "rt-1"
        for wrong in ("", "a b", "a\n", "x" * 9000, "é"):
            with pytest.raises(TokenError):
                check_refresh(wrong)

    def test_nothing_of_it_is_printed(self):
        tokens = Tokens(SecretStr("secret-a"), SecretStr("secret-b"))
        for text in (repr(tokens), str(tokens), repr(read_claims(token(GOOD)))):
            assert "secret" not in text
            assert "1234567" not in text


@pytest.fixture
def kept(tmp_path):
    return TokenFile(tmp_path / "data")


def tokens(refresh="rt-1"):
    access = make_token(7, issued_ms=NOW_MS, expires_ms=NOW_MS + 1000)
    return Tokens(SecretStr(access), None if refresh is None else SecretStr(refresh))


class TestTheFile:
    @pytest.mark.parametrize("refresh", ["rt-1", None])
    def test_what_is_written_is_read(self, kept, refresh):
        written = tokens(refresh)
        assert kept.write(written)
        assert kept.read() == written
        assert [path.name for path in kept.path.parent.iterdir()] == [NAME]

    def test_only_the_owner_can_read_it_whatever_the_umask(self, kept):
        before = os.umask(0)
        try:
            kept.write(tokens())
            kept.write(tokens("rt-2"))
        finally:
            os.umask(before)
        assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600

    def test_a_file_that_others_could_read_is_closed_for_them(self, kept):
        kept.write(tokens())
        kept.path.chmod(0o644)
        with structlog.testing.capture_logs() as logs:
            assert kept.read() is not None
        assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
        assert [line["event"] for line in logs] == ["stockbit_token_file_was_open"]

    def test_without_a_file_there_are_none(self, kept):
        with structlog.testing.capture_logs() as logs:
            assert kept.read() is None
        assert logs == []

    @pytest.mark.parametrize("content", [b"", b"{}", b'{"access_token": "x"}', b"\xff", b"[1]"])
    def test_what_is_not_readable_is_told_and_not_used(self, kept, content):
        kept.path.parent.mkdir()
        kept.path.write_bytes(content)
        kept.path.chmod(0o600)
        with structlog.testing.capture_logs() as logs:
            assert kept.read() is None
        assert [line["event"] for line in logs] == ["stockbit_token_file_not_used"]

    def test_a_directory_that_cannot_be_written_is_told_without_the_token(self, tmp_path):
        (tmp_path / "file").write_text("")
        kept = TokenFile(tmp_path / "file")
        with structlog.testing.capture_logs() as logs:
            assert not kept.write(tokens("secret-refresh"))
        assert [line["event"] for line in logs] == ["stockbit_token_not_kept"]
        assert "secret-refresh" not in str(logs)
        assert tokens().access.get_secret_value() not in str(logs)

    def test_a_rest_of_an_earlier_crash_does_not_disturb(self, kept):
        kept.path.parent.mkdir()
        kept.path.with_suffix(".tmp").write_text("half")
        assert kept.write(tokens())
        assert not kept.path.with_suffix(".tmp").exists()
