"""Every text that the element ``<async-upload>`` shows or speaks; its script holds none.

``{placeholders}`` stay in translations; the element fills them with numbers already formatted for the page's language.
"""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

#: Visible texts and accessible names that the widget's template renders itself.
LABELS: dict[str, str | Promise] = {
    "drop": _("or drop a file here"),
    "progress": _("Upload progress"),
    "pause": _("Pause"),
    "resume": _("Resume"),
    "retry": _("Try again"),
    "cancel": _("Cancel"),
    "discard": _("Discard"),
    "remove": _("Remove"),
    "undo": _("Undo"),
}

#: The attribute ``messages`` of the element, key by key.
MESSAGES: dict[str, str | Promise] = {
    # shown in the panel, per state
    "ready": _("Ready to upload, {size}"),
    "starting": _("Starting the upload"),
    "uploading": _("{percent}, {sent} of {total}"),
    "uploading_speed": _("{percent}, {sent} of {total}, {speed}/s, {left} left"),
    "retrying": _("Connection lost, trying again ({attempt})"),
    "offline": _("No network. The upload goes on when you are online again."),
    "paused": _("Paused at {percent}, {sent} of {total}"),
    "resumable": _("The upload of {name} stopped at {percent}. Choose the same file again to go on."),
    "done": _("Uploaded, {size}"),
    "done_unsized": _("Uploaded"),
    "saved_removed": _("Will be removed when the form is sent."),
    # accessible names of the buttons; must contain the visible label
    "pause_name": _("Pause upload of {name}"),
    "resume_name": _("Resume upload of {name}"),
    "retry_name": _("Try again to upload {name}"),
    "cancel_name": _("Cancel upload of {name}"),
    "discard_name": _("Discard upload of {name}"),
    "remove_name": _("Remove {name}"),
    # spoken by the live region
    "say_start": _("Uploading {name}"),
    "say_progress": _("{name}: {percent} uploaded"),
    "say_paused": _("Upload of {name} paused"),
    "say_resumed": _("Upload of {name} goes on"),
    "say_done": _("{name} is uploaded"),
    "say_cancelled": _("Upload of {name} cancelled"),
    "say_removed": _("{name} removed"),
    # sending the form
    "waiting": _("The form will be sent when the upload has finished. Press Escape to stop that."),
    "not_sent": _("The form was not sent."),
    "blocked_paused": _("The upload is paused. Resume or cancel it, then send the form again."),
    "blocked_error": _("The upload failed. Try again, choose another file or cancel it, then send the form again."),
    # errors (a text from the server's answer is shown instead where there is one)
    "error_size": _("{name} is too large ({size}). The limit is {limit}."),
    "error_type": _("{name} is not of an allowed type ({types})."),
    "error_one_file": _("Please choose one file only."),
    "error_folder": _("Folders cannot be uploaded. Please choose a file."),
    "error_unreadable": _("{name} can no longer be read. Please choose it again."),
    "error_network": _("The connection was lost and the upload could not go on."),
    "error_forbidden": _("You are not allowed to upload this file. You may have to sign in again."),
    "error_too_large": _("The server refused {name} because it is too large."),
    "error_server": _("The server has a problem at the moment."),
    "error_failed": _("The upload failed."),
}
