"""Airports, countries, flights, bookings and news."""

from __future__ import annotations

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q


class Country(models.Model):
    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=100, db_index=True)
    flag = models.CharField(max_length=8)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Airport(models.Model):
    """Every airport with an ICAO or local code; those with an IATA code have flights."""

    code = models.CharField(max_length=8, unique=True)
    iata = models.CharField(max_length=3, blank=True, db_index=True)
    name = models.CharField(max_length=200)
    city = models.CharField(max_length=200, db_index=True)
    country = models.ForeignKey(Country, models.PROTECT, related_name="airports")
    latitude = models.FloatField()
    longitude = models.FloatField()
    timezone = models.CharField(max_length=64)

    class Meta:
        ordering = ("city", "name")

    def __str__(self) -> str:
        return f"{self.city or self.name} ({self.iata or self.code})"


class SoldOut(Exception):
    """The flight has not enough seats left."""


class Flight(models.Model):
    number = models.CharField(max_length=8)
    origin = models.ForeignKey(Airport, models.PROTECT, related_name="departures")
    destination = models.ForeignKey(Airport, models.PROTECT, related_name="arrivals")
    departs_at = models.DateTimeField()
    arrives_at = models.DateTimeField()
    distance_km = models.PositiveIntegerField()
    price_cents = models.PositiveIntegerField()
    seats = models.PositiveIntegerField()
    seats_left = models.PositiveIntegerField()

    class Meta:
        ordering = ("departs_at", "id")
        indexes = (
            models.Index(fields=("origin", "destination", "departs_at")),
            models.Index(fields=("origin", "departs_at")),
            models.Index(fields=("destination", "departs_at")),
            models.Index(fields=("departs_at", "id")),
        )
        constraints = (
            models.CheckConstraint(condition=Q(seats_left__lte=F("seats")), name="no_more_seats_than_there_are"),
        )

    def __str__(self) -> str:
        return f"{self.number} {self.origin.iata}-{self.destination.iata}"

    @property
    def price(self) -> str:
        return f"{self.price_cents / 100:.2f}"

    @property
    def duration(self) -> str:
        minutes = int((self.arrives_at - self.departs_at).total_seconds()) // 60
        return f"{minutes // 60} h {minutes % 60:02} min"


class BookingManager(models.Manager["Booking"]):
    def book(self, user: object, flight: Flight, passengers: int) -> Booking:
        """Takes seats and books them, both or neither. Raises SoldOut. Any number of servers may do this at once."""
        with transaction.atomic():
            # The condition and the subtraction are one statement: two buyers of the last seat cannot both have it.
            taken = Flight.objects.filter(pk=flight.pk, seats_left__gte=passengers).update(
                seats_left=F("seats_left") - passengers
            )
            if not taken:
                raise SoldOut
            return self.create(
                user=user, flight=flight, passengers=passengers, price_cents=flight.price_cents * passengers
            )

    def cancel(self, user: object, pk: int) -> bool:
        """Gives the seats of one's own booking back; False when there is no such booking (any more)."""
        with transaction.atomic():
            booking = self.select_for_update().filter(pk=pk, user=user, cancelled=False).first()
            if booking is None:
                return False
            Flight.objects.filter(pk=booking.flight_id).update(seats_left=F("seats_left") + booking.passengers)
            booking.cancelled = True
            booking.save(update_fields=["cancelled"])
            return True


class Booking(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="bookings")
    flight = models.ForeignKey(Flight, models.PROTECT, related_name="bookings")
    passengers = models.PositiveIntegerField()
    price_cents = models.PositiveIntegerField()
    booked_at = models.DateTimeField(auto_now_add=True)
    cancelled = models.BooleanField(default=False)

    objects = BookingManager()

    class Meta:
        ordering = ("-booked_at",)
        constraints = (
            models.CheckConstraint(condition=Q(passengers__gte=1, passengers__lte=9), name="one_to_nine_passengers"),
        )

    def __str__(self) -> str:
        return f"booking {self.pk} of {self.flight}"

    @property
    def price(self) -> str:
        return f"{self.price_cents / 100:.2f}"


class Article(models.Model):
    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=200)
    summary = models.CharField(max_length=300)
    body = models.TextField()
    published_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("-published_at",)

    def __str__(self) -> str:
        return self.title
