"""`python manage.py seed`: tables, airports, countries, flights and news, in one transaction; a second time it does nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import airportsdata
import pycountry
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction
from django.utils import timezone

from flights.models import Airport, Article, Country, Flight
from flights.news import ARTICLES
from flights.schedule import Stop
from flights.schedule import flights as timetable

_FLIGHTS = 200_000
_EXTRA_COUNTRIES = {"XK": "Kosovo"}


class Command(BaseCommand):
    help = "Creates the tables and fills them with real airports and a made-up timetable."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--flights", type=int, default=_FLIGHTS, help=f"how many (default {_FLIGHTS})")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        with transaction.atomic(), connection.cursor() as cursor:
            # Two seeds at once: the second waits, and finds everything done.
            cursor.execute("SELECT pg_advisory_xact_lock(1903)")
            if Flight.objects.exists():
                self.stdout.write("the timetable is there already")
                return
            self._countries()
            self._airports()
            self._flights(options["flights"])
            self._news()
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        self.stdout.write("ready")

    def _countries(self) -> None:
        names = {country.alpha_2: getattr(country, "common_name", country.name) for country in pycountry.countries}
        rows = [Country(code=code, name=name, flag=_flag(code)) for code, name in (names | _EXTRA_COUNTRIES).items()]
        Country.objects.bulk_create(rows)
        self.stdout.write(f"{len(rows)} countries")

    def _airports(self) -> None:
        known = set(Country.objects.values_list("code", flat=True))
        columns = "(code, iata, name, city, country_id, latitude, longitude, timezone)"
        count = 0
        with connection.cursor() as cursor, cursor.copy(f"COPY {Airport._meta.db_table} {columns} FROM STDIN") as copy:
            for code, airport in airportsdata.load("ICAO").items():
                if airport["country"] in known:
                    place = (airport["lat"], airport["lon"], airport["tz"])
                    copy.write_row(
                        (code, airport["iata"], airport["name"], airport["city"], airport["country"], *place)
                    )
                    count += 1
        self.stdout.write(f"{count} airports")

    def _flights(self, count: int) -> None:
        values = Airport.objects.exclude(iata="").order_by("id").values_list("id", "iata", "latitude", "longitude")
        stops = [Stop(*row) for row in values]
        today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
        columns = (
            "(number, origin_id, destination_id, departs_at, arrives_at, distance_km, price_cents, seats, seats_left)"
        )
        with connection.cursor() as cursor, cursor.copy(f"COPY {Flight._meta.db_table} {columns} FROM STDIN") as copy:
            for row in timetable(stops, count, today):
                copy.write_row(row)
        self.stdout.write(f"{count} flights over the next 90 days")

    def _news(self) -> None:
        now = timezone.now()
        Article.objects.bulk_create(
            Article(
                slug=slug, title=title, summary=summary, body=body, published_at=now - timedelta(days=3 * age, hours=2)
            )
            for age, (slug, title, summary, body) in enumerate(ARTICLES)
        )
        self.stdout.write(f"{len(ARTICLES)} articles")


def _flag(code: str) -> str:
    """The country's flag as text: two regional indicator symbols."""
    return "".join(chr(0x1F1E6 + ord(letter) - ord("A")) for letter in code)
