"""The models in the admin, with no further code."""

from django.contrib import admin

from tests.testapp import models

admin.site.register([models.Document, models.Picture, models.Guarded, models.Limited])
