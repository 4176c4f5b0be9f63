"""The archive's pages: the list of talks and the form for one."""

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render

from talks.forms import TalkForm
from talks.models import Talk


def index(request):
    """List the talks."""
    return render(request, "talks/index.html", {"talks": Talk.objects.all()})


def edit(request, pk=None):
    """Add or change a talk. Nothing here knows that its files came before the form."""
    talk = None if pk is None else get_object_or_404(Talk, pk=pk)
    if request.method == "POST":
        form = TalkForm(request.POST, request.FILES, instance=talk, request=request)
        if form.is_valid():
            saved = form.save()
            messages.success(request, f"“{saved}” was saved.")
            return redirect("talks:create" if "another" in request.POST else "talks:index")
    else:
        form = TalkForm(instance=talk, request=request)
    return render(request, "talks/edit.html", {"form": form, "talk": talk}, status=422 if form.errors else 200)
