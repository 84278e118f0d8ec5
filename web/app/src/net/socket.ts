/**
 * The connection, and the loop that keeps it: connect, greet, beat, and after each end wait and try again.
 *
 * *Progress*: a connection counts as good once `hello` came. *Failure*: any end reconnects with backoff
 * and jitter; 4101 gets a fresh token first; 4102 to 4199 stop. A browser that says it is offline is
 * believed as far as dropping the connection goes; trying goes on slowly, since it may be wrong.
 */
import { afterClose, backoffMs, decodeFrame, Heartbeat, type ClientFrame, type ServerFrame } from '@waltalkie/client';

export type Connection =
  | { state: 'connecting' }
  | { state: 'connected' }
  | { state: 'reconnecting'; retryAtMs: number }
  | { state: 'offline' }
  | { state: 'stopped'; reason: string };

export interface SocketOptions {
  token: () => Promise<string>;
  forgetToken: () => void;
  onFrame: (frame: ServerFrame) => void;
  onDown: () => void;
  onState: (connection: Connection) => void;
}

const GREETING_MS = 10_000;
const OFFLINE_RETRY_MS = 15_000;

export class Socket {
  readonly #options: SocketOptions;
  #socket: WebSocket | null = null;
  #heartbeat: Heartbeat | null = null;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #offline = false;
  #ended = false;
  #reconnectAfterMs: number | null = null;

  constructor(options: SocketOptions) {
    this.#options = options;
  }

  /** Starts the loop. */
  start(): void {
    addEventListener('online', this.#online);
    addEventListener('offline', this.#wentOffline);
    addEventListener('pageshow', this.#online);
    void this.#connect();
  }

  /** Ends it for good. */
  stop(): void {
    this.#ended = true;
    removeEventListener('online', this.#online);
    removeEventListener('offline', this.#wentOffline);
    removeEventListener('pageshow', this.#online);
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }

  /** Sends a frame, if there is a connection that has been greeted. */
  send(frame: ClientFrame): boolean {
    if (this.#heartbeat === null || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
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
    if (wants === 'beat') this.send({ event: 'heartbeat', payload: {} });
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
    let token: string;
    try {
      token = await this.#options.token();
    } catch {
      this.#wait();
      return;
    }
    if (this.#ended || this.#socket !== null) return;
    const address = new URL('/v1/ws', location.href);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    address.hash = '';
    const socket = new WebSocket(address, ['waltalkie.v1', `bearer.${token}`]);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#drop(4000), GREETING_MS);
    socket.onmessage = ({ data }) => this.#received(socket, data);
    socket.onclose = ({ code }) => this.#closed(socket, code);
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
      this.#options.onState({ state: 'connected' });
    }
    this.#options.onFrame(frame);
  }

  /** Ends the connection at once: a close that waits for the other side may wait for a dead one. */
  #drop(code: number): void {
    const socket = this.#socket;
    if (socket === null) return;
    socket.close(code === 1000 ? 1000 : code);
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
      this.#options.onState({ state: 'stopped', reason: 'This sign-in is no longer valid.' });
      return;
    }
    // A refused handshake shows no code to a browser: a token that ran out while away may be the cause.
    if (next === 'fresh_token' || !greeted) this.#options.forgetToken();
    if (next === 'fresh_token' && this.#attempt === 0) {
      this.#attempt = 1;
      void this.#connect();
      return;
    }
    this.#wait();
  }

  #wait(): void {
    if (this.#ended) return;
    const backoff = backoffMs(this.#attempt++, Math.random());
    const waitMs = this.#offline ? OFFLINE_RETRY_MS : (this.#reconnectAfterMs ?? backoff);
    this.#reconnectAfterMs = null;
    this.#options.onState(this.#offline ? { state: 'offline' } : { state: 'reconnecting', retryAtMs: Date.now() + waitMs });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), waitMs);
  }
}
