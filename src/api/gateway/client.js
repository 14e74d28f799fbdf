// Live trades and order books of a market collector, for pages. No dependencies.
//
//   import {MarketClient} from "http://127.0.0.1:8002/client.js";
//   const client = new MarketClient();
//   client.onOrderBookUpdate = (symbol, data) => draw(symbol, data.bids, data.asks);
//   client.subscribe("BTC", {topic: "book"});
//   client.connect();
//
// What is subscribed is remembered at once, connected or not, and said again after each reconnect.

const PING_EVERY_MS = 30_000;
const SILENT_MS = 75_000;
const STEADY_MS = 10_000;
const FIRST_DELAY_MS = 500;
const FAST_CAP_MS = 16_000;
const FAST_TRIES = 6;
const SLOW_DELAY_MS = 60_000;
const POLICY_VIOLATION = 1008;

export class MarketClient {
  constructor(options = {}) {
    const own = new URL("/", import.meta.url);
    this.url = options.url ?? `${own.protocol === "https:" ? "wss" : "ws"}://${own.host}`;
    this.clientId = options.clientId ?? `page-${randomId()}`;
    this.token = options.token ?? "";
    this.firstDelayMs = options.firstDelayMs ?? FIRST_DELAY_MS;
    this.slowDelayMs = options.slowDelayMs ?? SLOW_DELAY_MS;
    this.state = "closed";
    this.onTrade = options.onTrade;
    this.onOrderBookUpdate = options.onOrderBookUpdate;
    this.onOrder = options.onOrder;
    this.onPosition = options.onPosition;
    this.onStatus = options.onStatus;
    this.onMessage = options.onMessage;
    this._wanted = new Map();
    this._socket = null;
    this._isWanted = false;
    this._tries = 0;
    this._retry = undefined;
    this._heartbeat = undefined;
    this._steady = undefined;
    this._heardAt = 0;
    this._online = () => this._isWanted && !this._socket && this._connectNow();
  }

  /** Open the connection and keep it open. Safe to repeat. */
  connect() {
    if (this._isWanted) return;
    this._isWanted = true;
    globalThis.addEventListener?.("online", this._online);
    this._connectNow();
  }

  /** Close for good: nothing is tried again until `connect`. Subscriptions are remembered. */
  disconnect() {
    this._isWanted = false;
    globalThis.removeEventListener?.("online", this._online);
    clearTimeout(this._retry);
    const socket = this._socket;
    this._forgetSocket();
    socket?.close(1000);
    this._tell({state: "closed", reason: "disconnect() was called"});
  }

  /** Want a symbol, whatever the state of the connection. `options`: {topic, venue}; the usual topic is "book". */
  subscribe(symbol, options = {}) {
    const command = {symbol, topic: options.topic ?? "book", ...(options.venue ? {venue: options.venue} : {})};
    const key = keyOf(command);
    if (this._wanted.has(key)) return;
    this._wanted.set(key, command);
    this._send({action: "subscribe", ...command});
  }

  /** Want it no longer; forgotten at once, connected or not. */
  unsubscribe(symbol, options = {}) {
    const command = {symbol, topic: options.topic ?? "book", ...(options.venue ? {venue: options.venue} : {})};
    if (this._wanted.delete(keyOf(command))) this._send({action: "unsubscribe", ...command});
  }

  /** What is wanted, as it would be said again. */
  get subscriptions() {
    return [...this._wanted.values()];
  }

  _connectNow() {
    clearTimeout(this._retry);
    this._tell({state: "connecting"});
    const protocols = this.token ? ["market-collector.v1", `bearer.${this.token}`] : ["market-collector.v1"];
    let socket;
    try {
      // What this page wants it says itself, so the server need not remember.
      const path = `/ws/${encodeURIComponent(this.clientId)}?batch=1&resume=0`;
      socket = new WebSocket(this.url.replace(/\/+$/, "") + path, protocols);
    } catch (error) {
      this._retryLater({code: 0, reason: String(error)});
      return;
    }
    this._socket = socket;
    socket.onopen = () => this._socket === socket && this._opened();
    socket.onmessage = (event) => this._socket === socket && this._heard(event.data);
    socket.onclose = (event) => {
      if (this._socket !== socket) return;
      this._forgetSocket();
      this._retryLater(event);
    };
  }

  _opened() {
    this._heardAt = Date.now();
    this._steady = setTimeout(() => { this._tries = 0; }, STEADY_MS);
    this._heartbeat = setInterval(() => this._beat(), PING_EVERY_MS);
    this._tell({state: "open"});
    for (const [key, symbols] of this._grouped()) {
      this._send({action: "subscribe", symbols, ...JSON.parse(key)});
    }
  }

  _grouped() {
    const groups = new Map();
    for (const {symbol, ...rest} of this._wanted.values()) {
      const key = JSON.stringify(rest);
      groups.set(key, [...(groups.get(key) ?? []), symbol]);
    }
    return groups;
  }

  _beat() {
    if (Date.now() - this._heardAt > SILENT_MS) {
      // A connection that died without a word would stay open for minutes.
      const socket = this._socket;
      this._forgetSocket();
      socket?.close();
      this._retryLater({code: 0, reason: "nothing was heard for a while"});
      return;
    }
    this._send({action: "ping"});
  }

  _heard(text) {
    this._heardAt = Date.now();
    let said;
    try {
      said = JSON.parse(text);
    } catch {
      return;
    }
    for (const message of Array.isArray(said) ? said : [said]) this._dispatch(message);
  }

  _dispatch(message) {
    const call = (handler, ...values) => {
      try {
        handler?.(...values);
      } catch (error) {
        console.error(error);  // a page's fault must not cost it its later messages
      }
    };
    call(this.onMessage, message);
    switch (message.type) {
      case "trade": call(this.onTrade, message.symbol, message.data, message); break;
      case "orderbook_update": call(this.onOrderBookUpdate, message.symbol, message.data, message); break;
      case "order": call(this.onOrder, message.symbol, message.data, message); break;
      case "position": call(this.onPosition, message.symbol, message.data, message); break;
      case "status": this._tell(message); break;
      case "error": this._tell({...message, state: "error"}); break;
    }
  }

  _retryLater(event) {
    if (!this._isWanted) return;
    this._tries += 1;
    // A refusal does not heal by hurrying; and whoever has failed often goes on slowly, but for ever.
    const slow = event.code === POLICY_VIOLATION || this._tries > FAST_TRIES;
    const cap = Math.min(FAST_CAP_MS, this.firstDelayMs * 2 ** (this._tries - 1));
    const delayMs = slow ? this.slowDelayMs * (0.75 + Math.random() / 2) : cap * (0.5 + Math.random() / 2);
    this._retry = setTimeout(() => this._connectNow(), delayMs);
    this._tell({state: "reconnecting", code: event.code, reason: event.reason ?? "", delayMs: Math.round(delayMs)});
  }

  _forgetSocket() {
    clearInterval(this._heartbeat);
    clearTimeout(this._steady);
    this._socket = null;
  }

  _send(command) {
    if (this._socket?.readyState === WebSocket.OPEN) this._socket.send(JSON.stringify(command));
  }

  _tell(status) {
    if (!status.symbol && status.state !== "error") this.state = status.state;
    try {
      this.onStatus?.(status);
    } catch (error) {
      console.error(error);
    }
  }
}

function keyOf(command) {
  return `${command.topic}|${command.venue ?? ""}|${command.symbol}`;
}

function randomId() {
  // Ids shared by several tabs would share their limits as well.
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
