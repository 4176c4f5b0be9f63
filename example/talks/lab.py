"""The big file lab: what the browser believes beside what lies on the server's disk, and buttons for trouble.

Shows internals, so it exists with DEBUG only, and shows a visitor only their own uploads.
"""

import functools
import hashlib

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from async_uploads import journal, owners
from talks import trouble as troubles
from talks.forms import SpecimenForm
from talks.models import Specimen


def debug_only(view):
    """Let a view exist with DEBUG only."""

    @functools.wraps(view)
    def serve(request, *args, **kwargs):
        if not settings.DEBUG:
            raise Http404
        return view(request, *args, **kwargs)

    return serve


@debug_only
def page(request):
    """Show the lab, or take a finished file over."""
    # With a session the uploads belong to this visitor, and can be shown to them.
    request.session.setdefault("lab", True)
    form = SpecimenForm(request.POST or None, request.FILES or None, request=request)
    if request.method == "POST" and form.is_valid():
        specimen = form.save()
        messages.success(request, f"{specimen.file.name} lies in its permanent place, {specimen.file.size:,} bytes.")
        return redirect("talks:lab")
    context = {"form": form, "specimens": Specimen.objects.all()[:10], "seconds": troubles.SLEEP_SECONDS}
    response = render(request, "talks/lab.html", context, status=422 if form.errors else 200)
    if troubles.COOKIE not in request.COOKIES:
        response.set_cookie(troubles.COOKIE, troubles.make_token(), httponly=True, samesite="Strict")
    return response


@debug_only
@require_GET
def state(request):
    """Say what the journal and the disk know of this visitor's newest upload to the lab."""
    line = troubles.get_line(request.COOKIES.get(troubles.COOKIE, ""))
    rows = journal.rows().filter(
        field_label=journal.get_field_label(Specimen._meta.get_field("file")), owner__in=owners.identities(request)
    )
    if key := request.GET.get("key"):
        rows = rows.filter(key=key)
    row = rows.select_related("state").order_by("-created_at", "-pk").first()
    answer = {
        "asleepFor": line.asleep_for,
        "isSlow": line.is_slow,
        "bodies": sum(line.bodies.values()),
        "upload": row and describe(row),
    }
    return JsonResponse(answer, headers={"Cache-Control": "no-store"})


def describe(row):
    """Return what is known of an upload, with its offset from the size of its data file."""
    storage = Specimen._meta.get_field("file").storage
    lease = getattr(row, "state", None)
    is_held = lease is not None and lease.lease_token is not None and lease.lease_expires_at > timezone.now()
    place = row.moved_to_location if row.is_promoted else row.place
    return {
        "key": row.key,
        "name": row.original_filename,
        "place": place,
        "offset": storage.stored_size(place) or 0,
        "length": row.length,
        "isWritten": is_held,
        "isFinished": row.is_finished,
        "isPromoted": row.is_promoted,
        "expires": None if row.is_finished or row.expires_at is None else row.expires_at.isoformat(),
    }


@debug_only
@require_POST
def trouble(request):
    """Make trouble on this visitor's line: ``cut``, ``sleep``, ``slow`` or ``fast``."""
    line = troubles.get_line(request.COOKIES.get(troubles.COOKIE, ""))
    match request.POST.get("kind"):
        case "cut":
            return JsonResponse({"cut": line.cut()})
        case "sleep":
            line.sleep()
        case "slow":
            line.is_slow = True
        case "fast":
            line.is_slow = False
        case _:
            return HttpResponseBadRequest("kind must be cut, sleep, slow or fast")
    return JsonResponse({"asleepFor": line.asleep_for, "isSlow": line.is_slow})


@debug_only
@require_GET
def sha256(request, pk):
    """Read a file from its permanent place and answer with its SHA-256, to be compared with ``sha256sum``."""
    specimen = get_object_or_404(Specimen, pk=pk)
    with specimen.file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return HttpResponse(f"{digest.hexdigest()}  {specimen.file.name}\n", content_type="text/plain; charset=utf-8")
