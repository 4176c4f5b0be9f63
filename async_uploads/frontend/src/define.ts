/** Defines the element; entry point of the classic script. Loading it twice is harmless. */

import { AsyncUploadElement } from "./element.ts";

if (!customElements.get("async-upload")) customElements.define("async-upload", AsyncUploadElement);
