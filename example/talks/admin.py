"""The models in the admin, with no further code for their files."""

from django.contrib import admin

from talks.models import Handout, Specimen, Talk


class HandoutInline(admin.TabularInline):
    """Handouts as rows of their talk; rows added in the page upload too."""

    model = Handout
    extra = 1


@admin.register(Talk)
class TalkAdmin(admin.ModelAdmin):
    """Talks with their handouts."""

    list_display = ["title", "speaker", "created_at"]
    search_fields = ["title", "speaker"]
    inlines = [HandoutInline]


@admin.register(Handout)
class HandoutAdmin(admin.ModelAdmin):
    """Handouts on their own."""

    list_display = ["__str__", "talk"]


admin.site.register(Specimen)
