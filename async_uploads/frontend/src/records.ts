/**
 * What the browser remembers about uploads: unfinished ones in `localStorage`, finished ones that were not submitted
 * yet in `sessionStorage`.
 *
 * A place is one field on one page (endpoint, field id, path, input name); a record belongs to one file in one place,
 * so the same file chosen in two fields never shares an upload. Storage can be missing, full or forbidden at any
 * moment: then nothing is remembered and everything else works.
 */

const PREFIX = "async-upload:";
const FINISHED = "async-upload-done:";
const MOST_RECORDS = 20;
const LONGEST_LIFE = 7 * 24 * 3600 * 1000;

export interface FileIdentity {
  name: string;
  type: string;
  size: number;
  lastModified: number;
}

export interface UploadRecord extends FileIdentity {
  place: string;
  url: string;
  offset: number;
  /** Milliseconds since 1970. */
  expires: number;
  updated: number;
}

/** Identifies a field on a page. */
export function buildPlace(endpoint: string, fieldId: string, path: string, name: string): string {
  return JSON.stringify([endpoint, fieldId, path, name]);
}

/** Identifies a file in a place; also the name of the Web Lock. */
export function buildRecordId(place: string, file: FileIdentity): string {
  return PREFIX + JSON.stringify([place, file.name, file.type, file.size, file.lastModified]);
}

export class Records {
  readonly #storage: () => Storage;

  /** `storage` is asked each time, as reading the property can itself be forbidden. */
  constructor(storage: () => Storage) {
    this.#storage = storage;
  }

  get(id: string, now: number): UploadRecord | null {
    const record = this.#read<UploadRecord>(id);
    if (!record || typeof record.url !== "string" || !(record.expires > now)) {
      if (record) this.drop(id);
      return null;
    }
    return record;
  }

  /** Keeps the record of `file` in `place`; the oldest records go when there are too many. */
  put(place: string, file: FileIdentity, url: string, offset: number, expires: number | null, now: number): void {
    const { name, type, size, lastModified } = file;
    const id = buildRecordId(place, file);
    const until = expires ?? now + LONGEST_LIFE;
    this.#write(id, { place, name, type, size, lastModified, url, offset, expires: until, updated: now });
    const all = this.#list(now).sort((a, b) => b[1].updated - a[1].updated);
    for (const [old] of all.slice(MOST_RECORDS)) this.drop(old);
  }

  drop(id: string): void {
    try {
      this.#storage().removeItem(id);
    } catch {
      // Nothing was remembered then.
    }
  }

  /** The records of a place, latest first. */
  inPlace(place: string, now: number): [string, UploadRecord][] {
    const found = this.#list(now).filter(([, record]) => record.place === place);
    return found.sort((a, b) => b[1].updated - a[1].updated);
  }

  /** Keeps any value for a place, for finished uploads. */
  putFinished(place: string, finished: object): void {
    this.#write(FINISHED + place, finished);
  }

  getFinished<T>(place: string): T | null {
    return this.#read<T>(FINISHED + place);
  }

  dropFinished(place: string): void {
    this.drop(FINISHED + place);
  }

  #list(now: number): [string, UploadRecord][] {
    const found: [string, UploadRecord][] = [];
    try {
      for (const id of Object.keys(this.#storage())) {
        const record = id.startsWith(PREFIX) ? this.get(id, now) : null;
        if (record) found.push([id, record]);
      }
    } catch {
      // As above.
    }
    return found;
  }

  #read<T>(id: string): T | null {
    try {
      return JSON.parse(this.#storage().getItem(id) ?? "null") as T | null;
    } catch {
      return null;
    }
  }

  #write(id: string, value: object): void {
    try {
      this.#storage().setItem(id, JSON.stringify(value));
    } catch {
      // As above.
    }
  }
}

export const localRecords = new Records(() => localStorage);
export const sessionRecords = new Records(() => sessionStorage);
