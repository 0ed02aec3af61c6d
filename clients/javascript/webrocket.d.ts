// Types of the WebRocket client. The README describes the whole.

/** What the client reports and rejects with. */
export class WebRocketError extends Error {
  readonly name: 'WebRocketError';
  /** The number of the protocol for what the server refuses, a word for what the client finds itself. */
  readonly code: ServerCode | LocalCode;
  /** What the server calls the code. */
  readonly status?: string;
  /** What the server adds, `channel limit reached` for instance. */
  readonly reason?: string;
  /** The error behind this one. */
  readonly cause?: unknown;
}

/** Numbers to come are possible. */
export type ServerCode = 400 | 402 | 403 | 451 | 453 | 454 | 503 | 597 | (number & {});

export type LocalCode =
  | 'bad-message'
  | 'closed'
  | 'connection-lost'
  | 'no-websocket'
  | 'queue-full'
  | 'timeout'
  | 'token-failed'
  | 'token-spent';

/** A single access token (for one session), a function that gets a fresh one for each session, or a user. */
export type Credentials = string | (() => string | Promise<string>) | { user: string; secret?: string };

/** As much of a WebSocket as the client needs; that of browsers and that of `ws` have it. */
export interface WebSocketLike {
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface ReconnectOptions {
  /** The delay before the first attempt, in milliseconds; 500 by default. */
  minDelay?: number;
  /** What delays grow to, in milliseconds; 30000 by default. A connection that lasts as long ends the counting. */
  maxDelay?: number;
  /** What the delay grows by with each attempt; 2 by default. */
  factor?: number;
  /** How much of a delay chance may take away, from 0 to 1; 0.5 by default. */
  jitter?: number;
  /** After how many attempts in a row the client gives up; never by default. */
  maxAttempts?: number;
}

export interface WebRocketOptions {
  /** What sessions authenticate with, from the first on. */
  token?: Credentials;
  /** Whether to connect at once; true by default. */
  autoConnect?: boolean;
  /** How to reconnect, or false for not at all. */
  reconnect?: ReconnectOptions | boolean;
  /** How many requests may wait to be sent; 1000 by default. */
  queueMax?: number;
  /** How long an answer, the greeting or a token may take, in milliseconds; 10000 by default. */
  timeout?: number;
  /** The WebSocket to use where there is no global one. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
}

export type ClientState = 'idle' | 'connecting' | 'connected' | 'waiting' | 'closing' | 'closed';
export type ChannelState = 'left' | 'joining' | 'joined' | 'leaving';

/** Takes a handler off again. */
export type Off = () => void;

export interface ClientEvents {
  /** The session is there, has authenticated if it is to, and takes requests. */
  connected: (detail: { sid: string; reconnected: boolean }) => void;
  /** The session is gone; `final` says that there will be no other. */
  disconnected: (detail: { code: number; reason: string; final: boolean }) => void;
  /** The next attempt comes in `delay` milliseconds. `code` and `reason` say how the last one ended. */
  reconnecting: (detail: { attempt: number; delay: number; code: number; reason: string }) => void;
  authenticated: () => void;
  /** A direct message to this session. */
  message: (event: string, data: Data) => void;
  /** An error that no promise tells of. */
  error: (error: WebRocketError) => void;
}

export interface ChannelEvents {
  /** Joined, or joined again after a gap in which broadcasts may have been missed. */
  subscribed: (detail: { rejoined: boolean }) => void;
  /** Not joined any more, nor to be: left, closed by the server, refused when joining again, or the client is closed. */
  unsubscribed: (detail: {
    reason: 'left' | 'closed' | 'refused' | 'disconnected';
    error?: WebRocketError;
  }) => void;
  /** Somebody has come to a presence channel. */
  online: (uid: string, data: Data) => void;
  /** Somebody has left a presence channel. */
  offline: (uid: string, data: Data) => void;
  /** A broadcast, whatever its event. */
  received: (event: string, data: Data, context: BroadcastContext) => void;
}

/** The members of what was sent; what was no object stands in the member `data`. */
export type Data = Record<string, any>;

export interface BroadcastContext {
  event: string;
  channel: Channel;
  /** The sender's session; undefined where a backend has sent it. */
  sid?: string;
}

export interface JoinOptions {
  /** What others see of this subscriber in a presence channel. */
  data?: Data;
  /** Whether to join a presence channel without being listed. */
  hidden?: boolean;
}

interface Emitter<Events> {
  /** Calls `handler` at every `name`. Registering a handler twice is registering it once. */
  on<Name extends keyof Events>(name: Name, handler: Events[Name]): Off;
  /** Calls `handler` at the next `name`. */
  once<Name extends keyof Events>(name: Name, handler: Events[Name]): Off;
  /** Takes `handler` off; without a handler, all of `name`. */
  off<Name extends keyof Events>(name: Name, handler?: Events[Name]): void;
}

/** A session at a vhost of a WebRocket server, kept up over lost connections. */
export class WebRocket implements Emitter<ClientEvents> {
  static readonly Error: typeof WebRocketError;

  /** @param url `ws(s)://host:port/vhost`, also `http(s)://`, or relative to the page */
  constructor(url: string | URL, options?: WebRocketOptions);

  readonly url: string;
  readonly state: ClientState;
  /** The session's identifier while there is one. */
  readonly sid: string | null;

  /** Connects, if nothing is under way: from `waiting` at once, and also again after `closed`. */
  connect(): void;
  /** Ends the session; `data` is what others in presence channels are told with the farewell. */
  close(data?: Data): Promise<void>;
  /** Authenticates this session, and all later ones in the same way. */
  authenticate(credentials: Credentials): Promise<void>;
  /** The channel of that name, always the same object; it need not be joined. */
  channel(name: string): Channel;
  /** Joins a channel, and joins it again after each reconnection until it is left. */
  join(name: string, options?: JoinOptions): Promise<Channel>;
  /** Triggers an event at a backend. */
  trigger(event: string, data?: unknown): Promise<void>;
  /** Opens a channel; needs the right MANAGE. */
  openChannel(name: string): Promise<void>;
  /** Closes a channel; needs the right MANAGE. */
  closeChannel(name: string): Promise<void>;

  on<Name extends keyof ClientEvents>(name: Name, handler: ClientEvents[Name]): Off;
  once<Name extends keyof ClientEvents>(name: Name, handler: ClientEvents[Name]): Off;
  off<Name extends keyof ClientEvents>(name: Name, handler?: ClientEvents[Name]): void;
}

export default WebRocket;

/** A channel, as `WebRocket.channel` and `WebRocket.join` give it. */
export interface Channel extends Emitter<ChannelEvents> {
  readonly name: string;
  readonly state: ChannelState;
  /** Who the session is in here; null in open channels and while not joined. */
  readonly uid: string | null;
  /** Who is in a presence channel: a live Map, to be read only. */
  readonly subscribers: ReadonlyMap<string, Data>;
  /** How many are in a presence channel, also where the list was too long to be sent whole. */
  readonly subscriberCount: number;

  /** Broadcasts of one event in this channel. */
  event(name: string): ChannelEvent;
  join(options?: JoinOptions): Promise<Channel>;
  /** Leaves; `data` is what others are told with the farewell, over the data of the join. */
  leave(options?: { data?: Data }): Promise<void>;
  /** Broadcasts to all subscribers; `trigger` names an event to trigger at a backend with the same data. */
  broadcast(event: string, data?: unknown, options?: { trigger?: string }): Promise<void>;
}

/** One event of a channel. */
export interface ChannelEvent {
  readonly name: string;
  readonly channel: Channel;
  on(handler: (data: Data, context: BroadcastContext) => void): Off;
  once(handler: (data: Data, context: BroadcastContext) => void): Off;
  off(handler?: (data: Data, context: BroadcastContext) => void): void;
  /** Broadcasts the event. */
  fire(data?: unknown, options?: { trigger?: string }): Promise<void>;
}
