"""The example's routes, and one page for each foreign script."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path

from demo.urls import urlpatterns as demo_patterns
from talks.forms import TalkForm
from talks.models import Talk

#: htmx and Turbo write style elements of their own; the upload field needs nothing of this.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob:; connect-src 'self'"
)


def show(request: HttpRequest, template: str, status: int = 200, **context: object) -> HttpResponse:
    response = render(request, f"interop/{template}.html", context, status=status)
    response["Content-Security-Policy"] = POLICY
    return response


def htmx(request: HttpRequest, script: str) -> HttpResponse:
    """The talk's form, sent and swapped by htmx."""
    form = TalkForm(request.POST or None, request.FILES or None, request=request)
    if request.method == "POST" and form.is_valid():
        return HttpResponse(f'<p role="status">Saved {form.save().pk}</p>')
    return show(request, "htmx_form" if request.method == "POST" else "htmx", form=form, script=script)


def turbo(request: HttpRequest) -> HttpResponse:
    """The talk's form, sent by Turbo."""
    form = TalkForm(request.POST or None, request.FILES or None, request=request)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("talks:index")
    return show(request, "turbo", 422 if form.errors else 200, form=form)


def uppy(request: HttpRequest) -> HttpResponse:
    """A form written by hand for the talk's own page; its file is uploaded by Uppy."""
    field = Talk._meta.get_field("video")
    return show(request, "uppy", field_id=field.async_field_registry.generate_id(field))


urlpatterns = [
    path("interop/turbo/", turbo),
    path("interop/uppy/", uppy),
    path("interop/<slug:script>/", htmx),
    *demo_patterns,
]
