/** What an earlier visit to this page left behind: a finished file that was not submitted, or an unfinished upload. */

import { askOffset } from "./http.ts";
import { acquireLock } from "./locks.ts";
import { type FileIdentity, localRecords, sessionRecords, type UploadRecord } from "./records.ts";
import { type KnownValue, parseValue } from "./value.ts";

type Headers = (url: string) => Promise<Record<string, string>>;

/** The finished value of a place, confirmed by the server where it can be asked. Forgotten when it is gone. */
export async function findFinished(place: string, headers: Headers): Promise<KnownValue | null> {
  const finished = parseValue(sessionRecords.getFinished(place));
  if (!finished?.uploadUrl) return finished;
  const answer = await askOffset(finished.uploadUrl, headers);
  if (answer && answer !== "gone" && answer.offset === answer.length) return finished;
  if (answer) sessionRecords.dropFinished(place);
  return null;
}

export interface Unfinished {
  id: string;
  record: UploadRecord;
}

/** Whether a file is the one of a record, as far as a page may know. */
export function isSameFile(file: FileIdentity, record: FileIdentity): boolean {
  return (["name", "type", "size", "lastModified"] as const).every((key) => file[key] === record[key]);
}

/**
 * The latest upload of a place that can go on, with the server's offset in it.
 *
 * The server is asked before anything is shown, and records it refuses are dropped without a word, so a shared
 * computer shows nobody the names of another's files. An upload that another tab is busy with is not offered.
 */
export async function findUnfinished(place: string, headers: Headers): Promise<Unfinished | null> {
  for (const [id, record] of localRecords.inPlace(place, Date.now())) {
    const answer = await askOffset(record.url, headers);
    if (answer === "gone") localRecords.drop(id);
    if (!answer || answer === "gone") continue;
    const release = await acquireLock(id);
    release?.();
    if (release) return { id, record: { ...record, offset: answer.offset } };
  }
  return null;
}
