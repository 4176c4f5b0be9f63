"""The routes of the archive and of the lab."""

from django.urls import path

from talks import lab, views

app_name = "talks"
urlpatterns = [
    path("", views.index, name="index"),
    path("talks/new/", views.edit, name="create"),
    path("talks/<int:pk>/", views.edit, name="edit"),
    path("lab/", lab.page, name="lab"),
    path("lab/state/", lab.state, name="lab-state"),
    path("lab/trouble/", lab.trouble, name="lab-trouble"),
    path("lab/<int:pk>/sha256/", lab.sha256, name="lab-sha256"),
]
