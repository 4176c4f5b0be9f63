"""``{% async_uploads_media %}``: the element's script and styles, for pages whose policy asks for a nonce.

``{{ form.media }}`` brings the same without nonce (Django ticket 36784); loading both is harmless.
"""

from __future__ import annotations

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from async_uploads.widgets import SCRIPT, STYLES, is_bundle_built

register = template.Library()


@register.simple_tag(takes_context=True)
def async_uploads_media(context: template.Context, nonce: object = "") -> SafeString:
    """Render the element's script and styles; nothing while they are not built.

    Args:
        context: Where ``csp_nonce`` and the request's ``csp_nonce`` are looked for when no nonce is given.
        nonce: The page's nonce, ``{% async_uploads_media nonce=request.csp_nonce %}``.
    """
    if not is_bundle_built():
        return SafeString("")
    found = nonce or context.get("csp_nonce") or getattr(context.get("request"), "csp_nonce", "")
    attribute = format_html(' nonce="{}"', found) if found else SafeString("")
    return format_html(
        '<link href="{}" media="all" rel="stylesheet"{}>\n<script src="{}" defer{}></script>',
        static(STYLES), attribute, static(SCRIPT), attribute,
    )  # fmt: skip
