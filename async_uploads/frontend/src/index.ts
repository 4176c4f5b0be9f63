/** What `import … from "async-uploads"` gives; importing also defines the element. */

import "./define.ts";

export { AsyncUploadElement } from "./element.ts";
export { AsyncUploadError } from "./outcome.ts";
export { whenSettled } from "./settled.ts";
export { AsyncUpload, type AsyncUploadOptions } from "./upload.ts";
export type { AsyncUploadValue } from "./value.ts";
