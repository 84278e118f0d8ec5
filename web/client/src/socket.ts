/**
 * The connection, and the loop that keeps it: connect, greet, beat, and after each end wait and try again. In browsers,
 * their workers, and wherever else `WebSocket` is global.
 *
 * *Progress*: a connection counts as good once `hello` came. *Failure*: any end reconnects with backoff
 * and jitter; 4101 gets a fresh token first; 4102 to 4199 stop. A browser that says it is offline is
 * believed as far as dropping the connection goes; trying goes on slowly, since it may be wrong.
 */
import { afterClose, backoffMs, Heartbeat } from './connection.ts';
import { decodeFrame, type ClientFrame, type ServerFrame } from './frames.ts';
import { endpoint } from './http.ts';
import type { Tokens } from './tokens.ts';

export type Connection =
  | { state: 'connecting' }
  | { state: 'connected' }
  /** `error` is why the application gave no token, if that is the cause. */
  | { state: 'reconnecting'; retryAtMs: number; error?: unknown }
  | { state: 'offline' }
  /** For good, as the server's close code says: 4102 to 4199. */
  | { state: 'stopped'; code: number };

export interface SocketOptions {
  /** The server, such as `https://chat.example.com`. */
  url: string;
  tokens: Tokens;
  onFrame: (frame: ServerFrame) => void;
  onDown: () => void;
  onState: (connection: Connection) => void;
}

const GREETING_MS = 10_000;
const OFFLINE_RETRY_MS = 15_000;
/** Of a connection that ended without a close frame (RFC 6455, 7.1.5). */
const NO_CODE = 1006;

export class Socket {
  readonly #options: SocketOptions;
  #socket: WebSocket | null = null;
  #heartbeat: Heartbeat | null = null;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #offline = false;
  #ended = false;
  #reconnectAfterMs: number | null = null;
  #active = true;

  constructor(options: SocketOptions) {
    this.#options = options;
  }

  /** Starts the loop. */
  start(): void {
    if (tellsOfNetwork()) {
      addEventListener('online', this.#online);
      addEventListener('offline', this.#wentOffline);
      addEventListener('pageshow', this.#online);
    }
    void this.#connect();
  }

  /** Ends it for good. */
  stop(): void {
    this.#ended = true;
    if (tellsOfNetwork()) {
      removeEventListener('online', this.#online);
      removeEventListener('offline', this.#wentOffline);
      removeEventListener('pageshow', this.#online);
    }
    clearTimeout(this.#timer);
    this.#drop(1000);
  }

  /** Sends a frame, if there is a connection that has been greeted. */
  send(frame: ClientFrame): void {
    if (this.#heartbeat === null || this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify(frame));
  }

  /** Whether somebody is at this device: told at once, and with each heartbeat. */
  set active(active: boolean) {
    if (active === this.#active) return;
    this.#active = active;
    this.#beat();
  }

  #beat(): void {
    this.send({ event: 'heartbeat', payload: this.#active ? {} : { active: false } });
  }

  /** The draining server says when to come back. */
  reconnectAfter(afterMs: number): void {
    this.#reconnectAfterMs = afterMs;
    this.#drop(1000);
  }

  /** Tries now instead of waiting. */
  tryNow = (): void => {
    if (this.#ended || this.#socket !== null) return;
    clearTimeout(this.#timer);
    void this.#connect();
  };

  /** Beats when it is time; ends a connection that is dead. */
  tick(now: number): void {
    const wants = this.#heartbeat?.tick(now);
    if (wants === 'beat') this.#beat();
    if (wants === 'dead') this.#drop(4009);
  }

  #online = (): void => {
    if (!navigator.onLine) return;
    this.#offline = false;
    this.#attempt = 0;
    this.tryNow();
  };

  #wentOffline = (): void => {
    this.#offline = true;
    if (this.#socket === null) this.#options.onState({ state: 'offline' });
    else this.#drop(1000);
  };

  async #connect(): Promise<void> {
    this.#options.onState(this.#offline ? { state: 'offline' } : { state: 'connecting' });
    let socket: WebSocket;
    try {
      const token = await this.#options.tokens.get();
      if (this.#ended || this.#socket !== null) return;
      const address = endpoint(this.#options.url, 'v1/ws').replace(/^http/, 'ws');
      // Throws for an address that is none, and for a token that can't stand in a header.
      socket = new WebSocket(address, ['waltalkie.v1', `bearer.${token}`]);
    } catch (error) {
      this.#wait(error);
      return;
    }
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#drop(4000), GREETING_MS);
    socket.onmessage = ({ data }) => this.#received(socket, data);
    socket.onclose = ({ code }) => this.#closed(socket, code);
    // Some Nodes leave out `close` after a handshake that failed. An error never has a code of the server's.
    socket.onerror = () => this.#closed(socket, NO_CODE);
  }

  #received(socket: WebSocket, data: unknown): void {
    if (socket !== this.#socket || typeof data !== 'string') return;
    const frame = decodeFrame(data);
    if (frame === null) return;
    this.#heartbeat?.heard();
    if (frame.event === 'hello') {
      clearTimeout(this.#timer);
      this.#attempt = 0;
      this.#offline = false;
      this.#heartbeat = new Heartbeat(frame.payload.heartbeat_ms, Date.now());
      // The server takes each connection for one that somebody is at.
      if (!this.#active) this.#beat();
    }
    this.#options.onFrame(frame);
    if (frame.event === 'hello') this.#options.onState({ state: 'connected' });
  }

  /** Ends the connection at once: a close that waits for the other side may wait for a dead one. */
  #drop(code: number): void {
    const socket = this.#socket;
    if (socket === null) return;
    socket.close(code);
    this.#closed(socket, code);
  }

  #closed(socket: WebSocket, code: number): void {
    if (socket !== this.#socket) return;
    const greeted = this.#heartbeat !== null;
    this.#socket = null;
    this.#heartbeat = null;
    clearTimeout(this.#timer);
    this.#options.onDown();
    if (this.#ended) return;
    const next = afterClose(code);
    if (next === 'stay_away') {
      this.#ended = true;
      this.#options.onState({ state: 'stopped', code });
      return;
    }
    // A refused handshake shows no code to a browser: a token that ran out while away may be the cause.
    if (next === 'fresh_token' || !greeted) this.#options.tokens.forget();
    if (next === 'fresh_token' && this.#attempt === 0) {
      this.#attempt = 1;
      void this.#connect();
      return;
    }
    this.#wait();
  }

  #wait(error?: unknown): void {
    if (this.#ended) return;
    const backoff = backoffMs(this.#attempt++, Math.random());
    const waitMs = this.#offline ? OFFLINE_RETRY_MS : (this.#reconnectAfterMs ?? backoff);
    this.#reconnectAfterMs = null;
    const retryAtMs = Date.now() + waitMs;
    this.#options.onState(this.#offline ? { state: 'offline' } : { state: 'reconnecting', retryAtMs, ...(error === undefined ? {} : { error }) });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), waitMs);
  }
}

/** Pages and workers hear of the network and of coming back from the cache; other programs have no such events. */
function tellsOfNetwork(): boolean {
  return typeof addEventListener === 'function';
}
