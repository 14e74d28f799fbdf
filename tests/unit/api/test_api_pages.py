"""The pages for people: they load nothing from elsewhere, and their policies allow exactly what they need."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest

from src.api.pages import STATUS_PAGE

OUTSIDE = re.compile(r"""(?:src|href|url\(|@import|fetch\()\s*=?\s*["']?(?:https?:)?//""")


@pytest.mark.parametrize("path", ["/", "/orderbook"])
async def test_a_page_is_self_contained(client, path):
    answer = await client.get(path)
    assert answer.headers["content-type"].startswith("text/html")
    assert not OUTSIDE.search(answer.text)
    assert not re.search(r"\son\w+=|style=|javascript:|innerHTML", answer.text)


@pytest.mark.parametrize("path", ["/", "/orderbook"])
async def test_its_policy_allows_its_own_script_and_style_only(client, path):
    answer = await client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


async def test_the_addresses_the_pages_ask_exist(client):
    page = (await client.get("/")).text
    asked = set(re.findall(r'(?:href|ask\()="?"?(/[a-z.]*)"', page)) | set(re.findall(r'ask\("(/[a-z]+)"\)', page))
    docs = (await client.get("/docs")).text
    asked |= set(re.findall(r'(?:src|href)="(/[^"]+)"', docs))
    assert {"/health", "/stats", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"} <= asked
    for path in asked:
        assert (await client.get(path)).status_code == 200, path


async def test_the_documentation_page_works_offline(client):
    docs = await client.get("/docs")
    assert not OUTSIDE.search(docs.text)
    assert "script-src 'self';" in docs.headers["content-security-policy"]
    assert not re.search(r"<script>", docs.text)
    script = await client.get("/docs/start.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert '"/openapi.json"' in script.text
    bundle = await client.get("/docs/swagger-ui-bundle.js")
    assert len(bundle.content) > 500_000
    assert b"SwaggerUIBundle" in bundle.content[:2000]


async def test_openapi_describes_the_routes(client):
    description = (await client.get("/openapi.json")).json()
    assert description["info"]["version"] == "1.2.3"
    orders = description["paths"]["/api/orders"]["get"]
    names = {parameter["name"] for parameter in orders["parameters"]}
    assert names == {"ethAddress", "coin", "status", "from", "to", "limit", "cursor"}
    assert {"422", "503"} <= set(orders["responses"])


STAGE = """
class Node {
  constructor(tag) { this.tag = tag; this.children = []; this.own = ""; this.className = ""; }
  set textContent(text) { this.own = String(text); this.children = []; }
  get textContent() { return [this.own, ...this.children.map((child) => child.textContent)].join("|"); }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; this.own = ""; }
  insertRow() { return this.insertCell(); }
  createTHead() { return this.insertCell(); }
  createTBody() { return this.insertCell(); }
  insertCell() { const made = new Node("part"); this.append(made); return made; }
}
const nodes = {};
globalThis.document = {
  hidden: false,
  createElement: (tag) => new Node(tag),
  getElementById: (id) => (nodes[id] ??= new Node(id)),
};
globalThis.fetch = async (path) => {
  if (!(path in ANSWERS)) throw new Error("nobody there");
  return { ok: path !== "/health", status: path === "/health" ? 503 : 200, json: async () => ANSWERS[path] };
};
globalThis.setTimeout = () => {
  const shown = Object.fromEntries(Object.entries(nodes).map(([id, node]) => [id, node.textContent]));
  console.log(JSON.stringify({ ...shown, statusClass: nodes.status.className }));
};
"""


def shown_by_page(tmp_path, answers):
    """What the page's script puts where, for these answers; run in node with a stage instead of a browser."""
    if shutil.which("node") is None:
        pytest.skip("needs node to run the page's script")
    (inline,) = re.findall(r"<script>(.*?)</script>", STATUS_PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    script = tmp_path / "status.js"
    script.write_text(f"const ANSWERS = {json.dumps(answers)};\n{STAGE}\n{inline}", encoding="utf-8")
    done = subprocess.run(["node", str(script)], check=True, timeout=30, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_the_script_shows_health_counters_connections_and_the_worst_streams_first(tmp_path):
    answers = {
        "/health": {
            "status": "down",
            "version": "1.2.3",
            "checks": [{"name": "mongodb", "ok": False, "text": "start it"}],
        },
        "/stats": {
            "tracked_orders": 1234,
            "buffer": {"length": 7, "full": False},
            "connections": [{"name": "c1", "state": "open", "bytes": 2_500_000, "subscriptions": {"confirmed": 3}}],
            "streams": {
                "hyperliquid/l2Book/BTC": {"state": "fresh", "arrival_age_ms": 250, "why": ""},
                "hyperliquid/l2Book/<img src=x>": {
                    "state": "silent",
                    "arrival_age_ms": 90_000,
                    "why": "nothing came",
                },
            },
        },
    }
    shown = shown_by_page(tmp_path, answers)
    assert (shown["status"], shown["statusClass"]) == ("down", "badge down")
    assert "start it" in shown["checks"]
    assert "7|messages waiting" in shown["cards"]
    assert "2.5 MB" in shown["connections"]
    assert "3 confirmed" in shown["connections"]
    assert shown["streams"].index("<img src=x>") < shown["streams"].index("BTC")
    assert "250 ms" in shown["streams"]
    assert "90.0 s" in shown["streams"]


@pytest.mark.parametrize("stats", [{}, {"connections": None, "streams": []}, {"streams": {"a": 5}, "buffer": None}])
def test_the_script_copes_with_missing_parts(tmp_path, stats):
    shown = shown_by_page(tmp_path, {"/health": {"status": "ok", "version": "1", "checks": []}, "/stats": stats})
    assert shown["status"] == "ok"


def test_the_script_says_when_nobody_answers(tmp_path):
    shown = shown_by_page(tmp_path, {})
    assert (shown["status"], shown["statusClass"]) == ("not reachable", "badge down")
    assert "nobody there" in shown["updated"]
