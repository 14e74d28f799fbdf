/** One price level. `orders`: number of orders, where the venue tells it. */
export interface Level {
  price: number;
  volume: number;
  orders?: number;
}

/** A whole order book, best level first. `timestamp`: RFC 3339, UTC. */
export interface OrderBook {
  bids: Level[];
  asks: Level[];
  timestamp: string;
  board?: string;
}

/** One trade. `timestamp`: RFC 3339, UTC; `side`: of the aggressor, where the venue tells it. */
export interface Trade {
  id: string;
  timestamp: string;
  price: number;
  size: number;
  exchange?: string;
  exchange_name?: string;
  conditions?: string[];
  side?: string;
  tape?: string;
  ts_ns?: number;
}

export type Topic = "book" | "trade" | "order" | "position" | "status";

export interface SubscribeOptions {
  /** What is wanted of the symbol; `book` when left out. Of an address: `order` or `position`. */
  topic?: Topic;
  /** Only that of this venue. */
  venue?: string;
}

/** Everything the server says. `history` marks a trade from before the subscription. */
export interface Message {
  type: string;
  symbol?: string;
  venue?: string;
  history?: boolean;
  data?: unknown;
  [field: string]: unknown;
}

/** State of the connection (no `symbol`), of one symbol's feed, or an error reply. */
export interface Status {
  state: "connecting" | "open" | "reconnecting" | "closed" | "live" | "stale" | "refused" | "error";
  symbol?: string;
  venue?: string;
  topic?: Topic;
  reason?: string;
  since?: string;
  code?: number | string;
  message?: string;
  delayMs?: number;
}

export interface MarketClientOptions {
  /** `ws://host:port`; the server this module was loaded from when left out. */
  url?: string;
  /** Unique per page; random when left out. */
  clientId?: string;
  /** `GATEWAY_TOKEN` of the server, where it has one. */
  token?: string;
  /** First delay before a new try, doubled up to 16 s; 500 when left out. */
  firstDelayMs?: number;
  /** Delay after six failed tries, for ever; 60,000 when left out. */
  slowDelayMs?: number;
  onTrade?: MarketClient["onTrade"];
  onOrderBookUpdate?: MarketClient["onOrderBookUpdate"];
  onOrder?: MarketClient["onOrder"];
  onPosition?: MarketClient["onPosition"];
  onStatus?: MarketClient["onStatus"];
  onMessage?: MarketClient["onMessage"];
}

export class MarketClient {
  constructor(options?: MarketClientOptions);
  readonly url: string;
  readonly clientId: string;
  /** Of the connection. */
  readonly state: "connecting" | "open" | "reconnecting" | "closed";
  readonly subscriptions: Array<{symbol: string; topic: Topic; venue?: string}>;
  onTrade?: (symbol: string, data: Trade, message: Message) => void;
  onOrderBookUpdate?: (symbol: string, data: OrderBook, message: Message) => void;
  onOrder?: (address: string, data: Record<string, unknown>, message: Message) => void;
  onPosition?: (address: string, data: Record<string, unknown>, message: Message) => void;
  onStatus?: (status: Status) => void;
  onMessage?: (message: Message) => void;
  /** Open the connection and keep it open. Safe to repeat. */
  connect(): void;
  /** Close for good: nothing is tried again until `connect`. Subscriptions are remembered. */
  disconnect(): void;
  /** Want a symbol, whatever the state of the connection. */
  subscribe(symbol: string, options?: SubscribeOptions): void;
  /** Want it no longer, whatever the state of the connection. */
  unsubscribe(symbol: string, options?: SubscribeOptions): void;
}
