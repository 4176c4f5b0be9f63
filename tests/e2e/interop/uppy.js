// The recipe of docs/how-to/tus-clients.md. What becomes of the upload's URL says the form's data-value.
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";

const form = document.querySelector("form[data-field-id]");
const uppy = new Uppy({ autoProceed: true, meta: { field_id: form.dataset.fieldId } });
uppy.use(Tus, {
  endpoint: "/uploads/tus/",
  chunkSize: 4 * 1024 * 1024,
  removeFingerprintOnSuccess: true,
  allowedMetaFields: ["field_id", "filename", "filetype"],
  headers: () => ({ "X-CSRFToken": form.elements.csrfmiddlewaretoken.value }),
});
uppy.on("file-added", (file) => uppy.setFileMeta(file.id, { filename: file.name, filetype: file.type }));
uppy.on("upload-success", (file, { uploadURL }) => {
  const id = new URL(uploadURL, document.baseURI).pathname.split("/").filter(Boolean).pop();
  form.elements.video.value = { url: uploadURL, id, json: JSON.stringify({ key: id }) }[form.elements.shape.value];
});
document.querySelector("#pick").addEventListener("change", ({ target }) => {
  for (const file of target.files) uppy.addFile({ name: file.name, type: file.type, data: file });
});
