/** What S3 and Azure say about a refused upload, with the status that our own server would have answered. */

const STATUSES = new Map([
  ["EntityTooLarge", 413], // the policy's limit; S3 says 400
  ["RequestTimeout", 503], // the bytes came too slowly; S3 says 400
  ["ExpiredToken", 403], // what the URL was signed with has expired; S3 says 400
]);

/** The status and the code of an error document; the status as it came where there is none, or another one. */
export function readCloudError(status: number, body: string): { status: number; code: string } {
  const code = /<Code>([\w.-]+)<\/Code>/.exec(body)?.[1] ?? "";
  return { status: STATUSES.get(code) ?? status, code };
}
