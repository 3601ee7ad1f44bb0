"""The app that Trimaran serves: `skyways.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyways.settings")
application = get_wsgi_application()
