"""No password of a connection string is ever shown, however badly the string is written."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.store.uri import mask_uri


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://127.0.0.1:27017", "mongodb://127.0.0.1:27017"),
        ("mongodb://127.0.0.1:27117/?directConnection=true", "mongodb://127.0.0.1:27117/?directConnection=true"),
        ("mongodb://me:secret@host/db?w=1", "mongodb://me:***@host/db?w=1"),
        ("mongodb://me@host/db", "mongodb://me@host/db"),
        ("mongodb://me:@host", "mongodb://me:***@host"),
        ("mongodb+srv://me:s%40cret@c.mongodb.net/x", "mongodb+srv://me:***@c.mongodb.net/x"),
        ("MONGODB://me:secret@a:1,b:2/x", "MONGODB://me:***@a:1,b:2/x"),
        ("mongodb://me:se@cret@host", "mongodb://***@host"),
        ("mongodb://me:se/cret@host/db", "mongodb://***@host/db"),
        ("mongodb://me:se?cret@host", "mongodb://***@host"),
        ("me:secret@host", "***@host"),
        ("nonsense", "nonsense"),
        ("", ""),
        (
            "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:secret&w=1",
            "mongodb://h/?authMechanismProperties=***&w=1",
        ),
        (
            "mongodb://h/?tls=true&tlsCertificateKeyFilePassword=secret",
            "mongodb://h/?tls=true&tlsCertificateKeyFilePassword=***",
        ),
        ("mongodb://h/?proxyPassword=secret", "mongodb://h/?proxyPassword=***"),
    ],
)
def test_the_shown_form(uri: str, shown: str) -> None:
    assert mask_uri(uri) == shown


@given(
    user=st.text(string.ascii_lowercase, max_size=5),
    password=st.text(string.ascii_letters + "@/:?&%#", min_size=1).map(lambda text: f"Z{text}Z"),
    scheme=st.sampled_from(["mongodb://", "mongodb+srv://", ""]),
)
def test_no_password_comes_through(user: str, password: str, scheme: str) -> None:
    shown = mask_uri(f"{scheme}{user}:{password}@host-1:27017/db")
    assert password not in shown
    assert "Z" not in shown
    assert shown.endswith("@host-1:27017/db")
