"""The page of order-book sessions: self-contained, its own policy, asks only what exists, and copes with bad answers."""

import json
import re
import shutil
import subprocess

import pytest

from src.api.pages import ORDERBOOK_PAGE


async def test_every_page_leads_to_the_others(client):
    for path, others in (("/", {"/orderbook", "/docs"}), ("/orderbook", {"/", "/docs"})):
        links = set(re.findall(r'href="(/[^"]*)"', (await client.get(path)).text))
        assert others <= links
        for link in links:
            assert (await client.get(link)).status_code == 200, link


def test_it_asks_every_five_seconds():
    assert "const REFRESH_MS = 5000" in ORDERBOOK_PAGE.read_text(encoding="utf-8")


STAGE = """
class Node {
  constructor(tag) { this.tag = tag; this.children = []; this.own = ""; this.className = ""; this.style = {}; this.value = ""; this.clicks = []; }
  set textContent(text) { this.own = String(text); this.children = []; }
  get textContent() { return [this.own, ...this.children.map((child) => child.textContent)].filter(Boolean).join("|"); }
  get options() { return this.children; }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; this.own = ""; }
  insertRow() { return this.insertCell(); }
  createTHead() { return this.insertCell(); }
  createTBody() { return this.insertCell(); }
  insertCell() { const made = new Node("part"); this.append(made); return made; }
  addEventListener(name, act) { this.clicks.push(act); }
  all() { return [this, ...this.children.flatMap((child) => child.all())]; }
}
const nodes = {}, asked = [];
globalThis.document = {
  hidden: false,
  createElement: (tag) => new Node(tag),
  getElementById: (id) => (nodes[id] ??= new Node(id)),
};
globalThis.fetch = async (path, options) => {
  asked.push([path, options.method || "GET", options.body || null]);
  if (!(path in ANSWERS)) throw new Error("nobody there");
  const [status, body] = ANSWERS[path];
  return { ok: status < 400, status, json: async () => body };
};
const kept = {};
globalThis.localStorage = { getItem: (name) => KEPT[name] ?? null, setItem: (name, value) => { kept[name] = value; } };
globalThis.clearTimeout = () => {};
let told = false;
globalThis.setTimeout = () => {
  if (told) return;
  told = true;
  STEPS(nodes).then(() => {
    const shown = Object.fromEntries(Object.entries(nodes).map(([id, node]) => [id, node.textContent]));
    const badges = (nodes.sessions?.all() || []).filter((node) => node.className.startsWith("badge")).map((node) => [node.own, node.className]);
    console.log(JSON.stringify({ ...shown, badges, asked, tokenHidden: nodes.tokenbox?.hidden ?? null, kept, title: document.title }));
  });
};
"""


def shown_by_page(tmp_path, answers, steps="async () => {}", kept=None):
    """What the page's script puts where, for these answers; run in node with a stage instead of a browser."""
    if shutil.which("node") is None:
        pytest.skip("needs node to run the page's script")
    (inline,) = re.findall(r"<script>(.*?)</script>", ORDERBOOK_PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    script = tmp_path / "orderbook.js"
    head = f"const ANSWERS = {json.dumps(answers)}, STEPS = {steps}, KEPT = {json.dumps(kept or {})};\n{STAGE}\n"
    script.write_text(head + inline, encoding="utf-8")
    done = subprocess.run(["node", str(script)], check=True, timeout=30, capture_output=True, text=True)
    return json.loads(done.stdout)


def session(**changes):
    return {
        "session_id": "stream_20260204_090001",
        "running": True,
        "status": "running",
        "connection_status": "connected",
        "venue": "stockbit",
        "tickers": ["BBCA", "TLKM"],
        "message_counts": {"BBCA": 39, "TLKM": 1300},
        "last_updates": {"BBCA": "2026-02-04T09:00:20.88"},
        "uptime_seconds": 7290,
        "started_at": "2026-02-04T09:00:01.120331",
        "total_reconnects": 2,
        "last_error": None,
    } | changes


MARKET = [200, {"exchange": "IDX", "status": "session_1", "until": "2026-02-04T12:00:00+07:00", "notice": None}]
BOOK = [200, {"bids": [[7725, 1840500, 412]], "asks": [[7750, 100, None], [7775, 50]], "spread": 25, "timestamp": 1}]


def answers(*sessions, **more):
    return {
        "/api/orderbook/streams": [200, {"success": True, "sessions": list(sessions)}],
        "/api/orderbook/market-status": MARKET,
        "/api/orderbook/stockbit/BBCA": BOOK,
    } | more


def test_sessions_statistics_and_depth_are_shown(tmp_path):
    shown = shown_by_page(tmp_path, answers(session()))
    for part in ("stream_20260204_090001", "BBCA|39|09:00:20", "TLKM|1,300|\u2013", "2 h 1 min", "1,339", "Stop"):
        assert part in shown["sessions"], part
    assert shown["badges"] == [["Connected", "badge on"]]
    assert shown["market"] == "IDX: session 1 until 2026-02-04 12:00"
    assert "412|1,840,500|7,725|7,750|100" in shown["ladder"]
    assert shown["spread"].startswith("spread 25")


@pytest.mark.parametrize(
    ("changes", "badge"),
    [
        ({"running": False, "status": "stopped", "connection_status": "stopped"}, ["Disconnected", "badge off"]),
        ({"running": False, "connection_status": "retrying", "last_error": "1006"}, ["Reconnecting", "badge off"]),
        (
            {"running": False, "connection_status": "error", "last_error": "needs login"},
            ["Needs attention", "badge off"],
        ),
    ],
)
def test_the_badge_is_green_only_while_connected(tmp_path, changes, badge):
    shown = shown_by_page(tmp_path, answers(session(**changes)))
    assert shown["badges"] == [badge]
    if changes.get("last_error"):
        assert changes["last_error"] in shown["sessions"]


def test_a_start_sends_the_lines_and_says_what_became_of_it(tmp_path):
    started = {
        "/api/orderbook/streams": [200, {"success": True, "sessions": [], "session_id": "s9", "tickers": ["BBCA"]}]
    }
    steps = """async (nodes) => {
      document.getElementById("tickers").value = "bbca\\n\\n TLKM ";
      document.getElementById("venue").value = "stockbit";
      nodes.start.clicks[0]();
      await new Promise((done) => setImmediate(() => setImmediate(done)));
    }"""
    shown = shown_by_page(tmp_path, answers() | started, steps)
    posted = [one for one in shown["asked"] if one[1] == "POST"]
    assert posted == [["/api/orderbook/streams", "POST", '{"tickers":["bbca","TLKM"],"venue":"stockbit"}']]
    assert shown["message"] == "Started s9 with 1 ticker."


def test_a_refusal_is_shown_and_a_missing_token_asked_for(tmp_path):
    steps = """async (nodes) => {
      ANSWERS["/api/orderbook/streams"] = [401, { detail: "send the token" }];
      nodes.start.clicks[0]();
      await new Promise((done) => setImmediate(() => setImmediate(done)));
    }"""
    shown = shown_by_page(tmp_path, answers(), steps)
    assert shown["message"] == "send the token"
    assert shown["tokenHidden"] is False


def test_names_of_tickers_are_text_and_never_markup(tmp_path):
    nasty = "<img src=x onerror=alert(1)>"
    shown = shown_by_page(tmp_path, answers(session(tickers=[nasty], message_counts={}, session_id=nasty)))
    assert nasty in shown["sessions"]


@pytest.mark.parametrize(
    "broken", [{}, {"/api/orderbook/streams": [500, {}]}, {"/api/orderbook/streams": [409, {"detail": "none"}]}]
)
def test_it_says_when_nobody_answers(tmp_path, broken):
    shown = shown_by_page(tmp_path, broken)
    assert shown["updated"].startswith("No answer since the last update")


def test_a_ticker_without_a_book_yet_is_no_error(tmp_path):
    missing = {"/api/orderbook/stockbit/BBCA": [404, {"detail": "no order book"}]}
    shown = shown_by_page(tmp_path, answers(session()) | missing)
    assert shown["ladder"] == "No order book has been stored yet."
    assert shown["updated"].startswith("Updated")


RULES = [
    {"name": "stockbit/BBCA", "what": "bid", "how": "over", "limit": 7725},
    {"name": "stockbit/BBCA", "what": "offerSize", "how": "under", "limit": 149},
]


def test_rules_on_price_and_volume_are_told_when_they_are_met(tmp_path):
    shown = shown_by_page(tmp_path, answers(session()), kept={"rules": json.dumps(RULES)})
    met, other = shown["rules"].split("stockbit: BBCA")[1:]
    assert met.startswith(": best bid \u2265 7,725 \u2013 now 7,725, since ")
    assert other == ": size of all offers \u2264 149"
    assert shown["title"].startswith("(!) ")


def test_a_rule_is_added_for_the_chosen_ticker_and_kept(tmp_path):
    steps = """async (nodes) => {
      for (const [id, value] of [["limit", "7800"], ["what", "offer"], ["how", "over"]]) document.getElementById(id).value = value;
      nodes.add.clicks[0]();
      await new Promise((done) => setImmediate(() => setImmediate(done)));
    }"""
    shown = shown_by_page(tmp_path, answers(session()), steps)
    assert json.loads(shown["kept"]["rules"]) == [
        {"name": "stockbit/BBCA", "what": "offer", "how": "over", "limit": 7800}
    ]
    assert "best offer" in shown["rules"]
    assert not shown["title"].startswith("(!)")


@pytest.mark.parametrize("kept", ["not json", "{}", '[{"what": "nothing"}]', "[null]"])
def test_rules_that_are_not_understood_are_dropped(tmp_path, kept):
    assert shown_by_page(tmp_path, answers(session()), kept={"rules": kept})["rules"] == ""
