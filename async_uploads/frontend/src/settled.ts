/** Waiting for the uploads of a form from a script, for pages that send it with `form.submit()` or `fetch`. */

import type { AsyncUploadElement } from "./element.ts";
import type { AsyncUploadValue } from "./value.ts";

/**
 * The values of the form's upload fields, in document order, as soon as none of them is busy; `null` for a field
 * without a finished upload. Asks the elements, so it does not matter which copy of the script defined them.
 */
export async function whenSettled(form: HTMLFormElement): Promise<(AsyncUploadValue | null)[]> {
  const root = form.getRootNode() as Document | ShadowRoot;
  const all = [...root.querySelectorAll<AsyncUploadElement>("async-upload")];
  return Promise.all(all.filter((field) => field.form === form).map((field) => field.whenSettled()));
}
