/** How the person is told of messages while the page is away: settings, devices, and this browser's own subscription. */
import type { Api, Device, NotificationChanges, NotificationOptions, NotificationSettings } from '@waltalkie/client';

const WORKER = '/sw.js';
const RETRY_MS = 3_000;
/** Who switched notifications on in this browser: it has one subscription, and that is this person's alone. */
const OWNER = 'waltalkie.push';

/** Whether this browser can be pushed to, and is. */
export type Here = 'unsupported' | 'denied' | 'off' | 'on';

/** A worker's address as pages that insist on trusted types want it. */
function workerUrl(): string {
  const types = (window as { trustedTypes?: { createPolicy(name: string, rules: object): { createScriptURL(url: string): string } } }).trustedTypes;
  return types?.createPolicy('waltalkie-worker', { createScriptURL: () => WORKER }).createScriptURL(WORKER) ?? WORKER;
}

/** The bytes of a base64url text. */
export function bytesOf(base64url: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64url.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(text, (sign) => sign.charCodeAt(0));
}

export class Notifications {
  options = $state<NotificationOptions | null>(null);
  settings = $state<NotificationSettings | null>(null);
  devices = $state<Device[]>([]);
  here = $state<Here>('unsupported');
  readonly #api: Api;
  readonly #me: string;
  readonly #deviceId: string;
  readonly #told = new Map<string, number>();
  #worker: Promise<ServiceWorkerRegistration> | null = null;
  #changes = 0;
  #readAtMs = Number.NEGATIVE_INFINITY;

  constructor(api: Api, me: string) {
    this.#api = api;
    this.#me = me;
    const key = `waltalkie.device.${me}`;
    this.#deviceId = localStorage.getItem(key) ?? crypto.randomUUID();
    localStorage.setItem(key, this.#deviceId);
  }

  /** Opens the chat of a notification that is clicked, and keeps a subscription of this person known to the server. */
  async start(open: (chatId: string) => void): Promise<void> {
    if (!('serviceWorker' in navigator)) return;
    navigator.serviceWorker.addEventListener('message', ({ data }: MessageEvent<{ type?: string; chatId?: string }>) => {
      if (data.type === 'open' && data.chatId) open(data.chatId);
    });
    if (!('PushManager' in window) || Notification.permission !== 'granted' || !this.#isMine()) return;
    const subscription = await (await this.#registered()).pushManager.getSubscription();
    if (subscription !== null) await this.#tell(subscription);
  }

  /** How far a chat was read: its notifications up to there go. */
  read(chatId: string, readSeq: number): void {
    if ((this.#told.get(chatId) ?? 0) >= readSeq) return;
    this.#told.set(chatId, readSeq);
    if ('serviceWorker' in navigator) navigator.serviceWorker.controller?.postMessage({ type: 'read', chatId, readSeq });
  }

  /** Whether this device of the list is this browser. */
  isHere(device: Device): boolean {
    return device.device_id === this.#deviceId;
  }

  async load(): Promise<void> {
    const [options] = await Promise.all([this.#api.notificationOptions(), this.#read(), this.#loadDevices()]);
    this.options = options;
    await this.#look();
  }

  /** Reads the settings again if they were read longer ago than this; what is known stays where that fails. */
  async reread(olderThanMs = 0): Promise<void> {
    if (Date.now() - this.#readAtMs < olderThanMs) return;
    await this.#read().catch(() => {
      // Until they are known nothing is counted or announced.
      if (this.settings === null) setTimeout(() => void this.reread(), RETRY_MS);
    });
  }

  async change(changes: NotificationChanges): Promise<void> {
    this.settings = await this.#api.changeNotificationSettings(changes);
    this.#changes += 1;
  }

  /** Subscribes this browser, after the person allowed it. */
  async enable(): Promise<void> {
    const key = this.options?.web_push_public_key;
    if (!key) return;
    if ((await Notification.requestPermission()) === 'granted') {
      const { pushManager } = await this.#registered();
      const subscribed = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytesOf(key) });
      await this.#tell(subscribed);
      localStorage.setItem(OWNER, this.#me);
    }
    await this.#look();
    await this.#loadDevices();
  }

  async disable(): Promise<void> {
    await this.#unsubscribe();
    if (this.devices.some((device) => this.isHere(device))) await this.#api.removeDevice(this.#deviceId);
    await this.#look();
    await this.#loadDevices();
  }

  /** What was switched on here ends with the person's session: the next one at this browser must not get their messages. */
  async leave(): Promise<void> {
    if (!('serviceWorker' in navigator) || !this.#isMine()) return;
    await this.#unsubscribe();
    await this.#api.removeDevice(this.#deviceId);
  }

  async remove(device: Device): Promise<void> {
    if (this.isHere(device)) return this.disable();
    await this.#api.removeDevice(device.device_id);
    await this.#loadDevices();
  }

  /** What was changed here meanwhile is newer than the answer. */
  async #read(): Promise<void> {
    const changes = this.#changes;
    const settings = await this.#api.notificationSettings();
    this.#readAtMs = Date.now();
    if (changes === this.#changes) this.settings = settings;
  }

  #isMine(): boolean {
    return localStorage.getItem(OWNER) === this.#me;
  }

  /** Here first: then nothing more is shown, also where the server can't be told. */
  async #unsubscribe(): Promise<void> {
    localStorage.removeItem(OWNER);
    const subscription = await (await this.#registered()).pushManager.getSubscription();
    await subscription?.unsubscribe();
  }

  async #loadDevices(): Promise<void> {
    this.devices = await this.#api.devices();
  }

  async #look(): Promise<void> {
    if (!this.options?.web_push_public_key || !('serviceWorker' in navigator) || !('PushManager' in window)) {
      this.here = 'unsupported';
    } else if (Notification.permission === 'denied') {
      this.here = 'denied';
    } else {
      const subscription = await (await this.#registered()).pushManager.getSubscription();
      this.here = subscription !== null && this.#isMine() ? 'on' : 'off';
    }
  }

  async #tell(subscription: PushSubscription): Promise<void> {
    const { endpoint, keys } = subscription.toJSON();
    if (!endpoint || !keys?.p256dh || !keys.auth) return;
    await this.#api.addDevice({
      device_id: this.#deviceId, platform: 'web', name: 'Browser', address: endpoint, keys: { p256dh: keys.p256dh, auth: keys.auth },
    });
  }

  #registered(): Promise<ServiceWorkerRegistration> {
    this.#worker ??= navigator.serviceWorker.register(workerUrl()).then(() => navigator.serviceWorker.ready);
    return this.#worker;
  }
}
