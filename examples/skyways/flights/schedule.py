"""A timetable made up from real airports: the same for the same seed and the same day."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_DAYS = 90
_HUBS = [
    "ATL", "DXB", "LHR", "HND", "DFW", "DEN", "IST", "LAX", "CDG", "ORD", "DEL", "CAN", "ICN", "MAD", "SIN", "BOM", "PEK",
    "JFK", "AMS", "FRA", "SFO", "MCO", "BKK", "HKG", "LAS", "MIA", "MUC", "SEA", "BCN", "DOH", "FCO", "SYD", "MEX", "GRU",
    "KUL", "CGK", "MNL", "YYZ", "LGW", "EWR", "VIE", "ZRH", "CPH", "OSL", "ARN", "DUB", "LIS", "ATH", "WAW", "PRG", "BUD",
    "HEL", "JNB", "CPT", "NBO", "CAI", "ADD", "LOS", "ACC", "CMN", "ALG", "TUN", "BOG", "LIM", "SCL", "EZE", "UIO", "PTY",
    "HAV", "AKL", "MEL", "BNE", "PER", "TPE", "PVG", "CTU", "XIY", "KIX", "CTS", "FUK", "BLR", "HYD", "MAA", "CCU", "DAC",
]  # fmt: skip
_CRUISE_KMH = 830
_SHORTEST_KM = 150
"""Nobody flies from one airport of a city to another."""


@dataclass(frozen=True, slots=True)
class Stop:
    pk: int
    iata: str
    latitude: float
    longitude: float


Row = tuple[str, int, int, datetime, datetime, int, int, int, int]


def distance_km(a: Stop, b: Stop) -> float:
    """Along the great circle, on a sphere of 6,371 km (haversine)."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    half = math.sin((phi_b - phi_a) / 2) ** 2
    half += math.cos(phi_a) * math.cos(phi_b) * math.sin(math.radians(b.longitude - a.longitude) / 2) ** 2
    return 12_742 * math.asin(math.sqrt(min(half, 1.0)))


def flights(stops: Sequence[Stop], count: int, first_day: datetime, seed: int = 1903) -> Iterator[Row]:
    """`count` rows for the table of flights: two thirds between hubs, the rest between a hub and anywhere."""
    chance = random.Random(seed)
    names = set(_HUBS)
    hubs = [stop for stop in stops if stop.iata in names] or list(stops)
    weights = [1 / (1 + at * 0.05) for at in range(len(hubs))]
    for _ in range(count):
        origin = chance.choices(hubs, weights)[0]
        destination = chance.choices(hubs, weights)[0] if chance.random() < 0.67 else chance.choice(stops)
        if chance.random() < 0.5:
            origin, destination = destination, origin
        while distance_km(origin, destination) < _SHORTEST_KM:
            destination = chance.choice(stops)
        yield _flight(chance, origin, destination, first_day)


def _flight(chance: random.Random, origin: Stop, destination: Stop, first_day: datetime) -> Row:
    distance = distance_km(origin, destination)
    minutes = round((distance / _CRUISE_KMH * 60 + 35) / 5) * 5
    departs = first_day + timedelta(days=chance.randrange(_DAYS), minutes=5 * chance.randrange(60, 276))
    seats = chance.choice((72, 110, 150, 186) if distance < 4_000 else (220, 290, 350))
    left = 0 if chance.random() < 0.03 else chance.randint(1, seats)
    scarcity = 1 + 0.8 * (1 - left / seats)
    price = (2_900 + distance * 6.5) * scarcity * chance.uniform(0.75, 1.4)
    number = f"SW{chance.randrange(100, 9999)}"
    return (
        number,
        origin.pk,
        destination.pk,
        departs,
        departs + timedelta(minutes=minutes),
        round(distance),
        round(price),
        seats,
        left,
    )
