"""Why a single write was refused for its content: the constants in `Rejected.reason`, used as counter labels."""

from __future__ import annotations

MISSING_ID = "missing_id"
"""An `Insert` whose document has no ``_id``: storing it twice would store it twice."""

NOT_ENCODABLE = "not_encodable"
"""Something BSON cannot hold: an integer beyond 64 bits, a lone surrogate, an unknown type, endless nesting."""

TOO_LARGE = "too_large"
"""The document would be larger than MongoDB's 16 MiB."""

BAD_FIELD_NAME = "bad_field_name"
"""A field name that is empty, starts with ``$`` or contains NUL."""

DUPLICATE_KEY = "duplicate_key"
"""Another document already has these values of a unique index other than ``_id``."""

REFUSED = "refused"
"""MongoDB refused the document for another reason; `Rejected.detail` has its words."""

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
