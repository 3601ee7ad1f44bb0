"""What every page knows: which server made it."""

import os

from django.http import HttpRequest


def serving(request: HttpRequest) -> dict[str, str]:
    return {"server_name": os.environ.get("TRIMARAN_SERVER", "")}
