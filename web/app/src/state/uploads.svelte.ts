/** Files that a person is about to send, a chat: on their way to the store while the message is written. */
import { isTemporary, newId, upload, WaltalkieError, type Api, type Attachment } from '@waltalkie/client';
import { SvelteMap } from 'svelte/reactivity';

/** One file in a composer. */
export class Upload {
  readonly id = newId();
  readonly file: File;
  /** Of a picture: the file itself, to be shown at once. */
  readonly preview: string | null;
  /** From 0 to 1. */
  progress = $state(0);
  state = $state<'sending' | 'checking' | 'ready' | 'failed'>('sending');
  problem = $state('');
  attachment = $state.raw<Attachment | null>(null);
  #abort = new AbortController();
  /** What the server has of it: another try goes on with that. */
  #mediaId: string | null = null;

  constructor(file: File) {
    this.file = file;
    this.preview = file.type.startsWith('image/') ? URL.createObjectURL(file) : null;
  }

  /** Begins, or goes on where it failed. */
  async start(api: Api, chatId: string): Promise<void> {
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    this.state = 'sending';
    this.problem = '';
    try {
      this.attachment = await upload(api, chatId, this.file, {
        signal,
        resume: this.#mediaId,
        onBegun: (mediaId) => (this.#mediaId = mediaId),
        onStep: (step) => {
          if (signal.aborted) return;
          this.state = step.step;
          if (step.step === 'sending') this.progress = step.size > 0 ? step.sent / step.size : 1;
        },
      });
      this.state = 'ready';
    } catch (error) {
      if (signal.aborted) return;
      if (!isTemporary(error)) this.#mediaId = null;
      this.state = 'failed';
      this.problem = error instanceof WaltalkieError ? error.message : 'The file could not be read.';
    }
  }

  /** Ends it: the server keeps nothing of it. */
  cancel(api: Api): void {
    this.#abort.abort();
    // An upload under way sees to that itself.
    const isAtRest = this.state === 'ready' || this.state === 'failed';
    if (isAtRest && this.#mediaId !== null) void api.removeMedia(this.#mediaId).catch(() => undefined);
    if (this.preview) URL.revokeObjectURL(this.preview);
  }
}

export class Uploads {
  readonly #api: Api;
  readonly #of = new SvelteMap<string, Upload[]>();

  constructor(api: Api) {
    this.#api = api;
  }

  /** The files in a chat's composer, in the order in which they will be sent. */
  of(chatId: string): readonly Upload[] {
    return this.#of.get(chatId) ?? [];
  }

  /** Adds files, as many as a message takes; tells how many were left out. */
  add(chatId: string, files: readonly File[], most: number): number {
    const room = Math.max(0, most - this.of(chatId).length);
    const added = files.slice(0, room).map((file) => new Upload(file));
    this.#of.set(chatId, [...this.of(chatId), ...added]);
    for (const one of added) void one.start(this.#api, chatId);
    return files.length - added.length;
  }

  /** Tries one that failed again. */
  retry(chatId: string, one: Upload): void {
    void one.start(this.#api, chatId);
  }

  /** Takes one out; the server keeps nothing of it. */
  remove(chatId: string, one: Upload): void {
    one.cancel(this.#api);
    this.#of.set(chatId, this.of(chatId).filter((other) => other !== one));
  }

  /** All of them, if they are ready to be sent; they leave the composer. */
  take(chatId: string): Attachment[] {
    const ready = this.of(chatId).flatMap(({ attachment }) => attachment ?? []);
    for (const one of this.of(chatId)) if (one.preview) URL.revokeObjectURL(one.preview);
    this.#of.delete(chatId);
    return ready;
  }
}
