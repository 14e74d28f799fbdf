"""The TypeScript client printed in the source document of the order-book middleware, as JavaScript."""

import re
from pathlib import Path

SEEDS = Path(__file__).resolve().parents[2].parent / "shared" / "seeds"
TYPES = r"string|any|WebSocket \| null|\([^)]*\) => void"


def printed_client():
    """Its source as printed, None where the document is not at hand."""
    found = sorted(SEEDS.glob("004_*.txt"))
    if not found:
        return None
    blocks = re.findall(r"```typescript\n(.*?)```", found[0].read_text(encoding="utf-8"), flags=re.DOTALL)
    return next((block for block in blocks if "class WebSocketClient" in block), None)


def without_types(source):
    """The same program in JavaScript: only what has no meaning at run time is left out."""
    text = source.replace("export class", "window.WebSocketClient = class").replace("private ", "")
    text = text.replace("new Set<string>()", "new Set()")
    return re.sub(rf"\b(\w+)\??: (?:{TYPES})", r"\1", text)
