/** What is said of a message's files where they aren't shown themselves. */
import type { Attachment } from '@waltalkie/client';

const WORDS: Record<string, [one: string, many: string]> = {
  image: ['Photo', 'photos'],
  video: ['Video', 'videos'],
  audio: ['Audio', 'audio files'],
};

/** A few words: `Photo`, `3 photos`, a file's name, `4 files`. */
export function attachmentsText(attachments: readonly Attachment[] | undefined): string {
  const first = attachments?.[0];
  if (attachments === undefined || first === undefined) return '';
  const words = attachments.every(({ kind }) => kind === first.kind) ? WORDS[first.kind] : undefined;
  if (attachments.length === 1) return words?.[0] ?? first.file_name;
  return `${attachments.length} ${words?.[1] ?? 'files'}`;
}

/** What a message says, or what it shows. */
export function messageText({ content, attachments }: { content: string | null; attachments?: readonly Attachment[] }): string {
  return content || attachmentsText(attachments);
}

/** Bytes for people. */
export function sizeText(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB'];
  let size = bytes / 1_000;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1_000;
    unit += 1;
  }
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** A length of time: `0:07`, `1:02:03`. */
export function durationText(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  const two = (number: number) => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** The size in which a picture is shown: as it is, within a box, and never so small that it can't be hit. */
export function shownSize(width: number, height: number, most: number): { width: number; height: number } {
  const scale = Math.min(1, most / width, most / height);
  return { width: Math.max(72, Math.round(width * scale)), height: Math.max(72, Math.round(height * scale)) };
}

/** Bytes of Base64; none if it isn't. */
export function bytesOf(base64: string | null | undefined): Uint8Array {
  try {
    return Uint8Array.from(atob(base64 ?? ''), (char) => char.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}
