"""Connection strings without their secrets."""

from __future__ import annotations

import re

_MASK = "***"
# A well-formed string: user and password end at the first "@", hosts at "/" or "?".
_WELL_FORMED = re.compile(
    r"(?P<scheme>[a-z0-9+.-]+://)(?:(?P<user>[^:@/?]*)(?P<password>:[^@/?]*)?@)?(?P<rest>[^@]*)\Z", re.IGNORECASE
)
_SECRET_OPTION = re.compile(
    r"(?<=[?&;])(authMechanismProperties|tlsCertificateKeyFilePassword|proxyPassword)=[^&;]*", re.IGNORECASE
)


def mask_uri(uri: str) -> str:
    """The connection string with its password and secret options replaced by stars; for logs, banner and errors.

    A string that is not well formed (a password with a bare ``@`` or ``/``) loses everything up to its last ``@``:
    rather too much is hidden than a character of the password shown.
    """
    matched = _WELL_FORMED.match(uri)
    if matched is None:
        scheme, separator, rest = uri.partition("://")
        if not separator:
            scheme, rest = "", uri
        masked = f"{scheme}{separator}{_MASK}@{rest.rpartition('@')[2]}" if "@" in rest else uri
    elif matched["password"] is None:
        masked = uri
    else:
        masked = f"{matched['scheme']}{matched['user']}:{_MASK}@{matched['rest']}"
    return _SECRET_OPTION.sub(rf"\1={_MASK}", masked)
