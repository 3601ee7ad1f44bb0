"""The pages."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.functional import cached_property
from django.views.decorators.http import require_POST, require_safe

from .forms import BookingForm, SearchForm, SignUpForm
from .models import Airport, Article, Booking, Country, Flight, SoldOut

_PER_PAGE = 20
_SUGGESTIONS = 12
_FOUND_MAX = 1_000
_SEATS_FOR_SALE = Q(seats_left__gt=0)


class FirstPages(Paginator):
    """The first thousand: to count 200,000 flights for every visitor would cost more than to show them."""

    @cached_property
    def count(self) -> int:
        return self.object_list[:_FOUND_MAX].count()

    @property
    def is_cut(self) -> bool:
        return self.count == _FOUND_MAX


def _upcoming():
    return Flight.objects.filter(departs_at__gt=timezone.now()).select_related(
        "origin__country", "destination__country"
    )


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    context = {
        "form": SearchForm(),
        "deals": _upcoming()
        .filter(_SEATS_FOR_SALE, departs_at__lt=timezone.now() + timedelta(days=3))
        .order_by("price_cents")[:6],
        "articles": Article.objects.all()[:3],
    }
    return render(request, "flights/home.html", context)


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    form = SearchForm(request.GET)
    flights, page = _upcoming(), None
    if form.is_valid():
        wanted = form.cleaned_data
        if wanted["origin"]:
            flights = flights.filter(origin=wanted["origin"])
        if wanted["destination"]:
            flights = flights.filter(destination=wanted["destination"])
        if wanted["date"]:
            start = datetime.combine(wanted["date"], time(), UTC)
            flights = flights.filter(departs_at__gte=start, departs_at__lt=start + timedelta(days=1))
        order = ("price_cents", "id") if wanted["sort"] == "price" else ("departs_at", "id")
        page = FirstPages(flights.order_by(*order), _PER_PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    return render(request, "flights/search.html", {"form": form, "page": page, "query": query.urlencode()})


@require_safe
def suggest(request: HttpRequest) -> JsonResponse:
    """Airports whose city, name or code begins with what was typed."""
    text = request.GET.get("q", "").strip()
    if len(text) < 2:
        return JsonResponse({"airports": []})
    matches = Q(city__istartswith=text) | Q(name__istartswith=text) | Q(iata=text.upper())
    airports = Airport.objects.exclude(iata="").filter(matches)[:_SUGGESTIONS]
    return JsonResponse({"airports": [str(airport) for airport in airports]})


def flight(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Flight.objects.select_related("origin__country", "destination__country"), pk=pk)
    form = BookingForm(request.POST or None)
    if request.method == "POST":
        if not request.user.is_authenticated:
            return redirect(f"/sign-in/?next={request.path}")
        if found.departs_at <= timezone.now():
            messages.error(request, "This flight has departed.")
        elif form.is_valid():
            try:
                Booking.objects.book(request.user, found, form.cleaned_data["passengers"])
            except SoldOut:
                messages.error(request, "There are not enough seats left on this flight. Nothing was booked.")
                return redirect("flight", pk=pk)
            messages.success(request, f"You are booked on {found.number} to {found.destination.city}.")
            return redirect("bookings")
    return render(request, "flights/flight.html", {"flight": found, "form": form})


@login_required
@require_safe
def bookings(request: HttpRequest) -> HttpResponse:
    own = Booking.objects.filter(user=request.user).select_related("flight__origin", "flight__destination")
    return render(request, "flights/bookings.html", {"bookings": own, "now": timezone.now()})


@login_required
@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    if Booking.objects.cancel(request.user, pk):
        messages.success(request, "Your booking is cancelled and the seats are free again.")
    else:
        messages.error(request, "There is no such booking, or it is cancelled already.")
    return redirect("bookings")


@require_safe
def airport(request: HttpRequest, code: str) -> HttpResponse:
    found = get_object_or_404(Airport.objects.select_related("country"), code=code)
    context = {
        "airport": found,
        "departures": _upcoming().filter(origin=found)[:15],
        "arrivals": _upcoming().filter(destination=found)[:15],
    }
    return render(request, "flights/airport.html", context)


@require_safe
def countries(request: HttpRequest) -> HttpResponse:
    listed = Country.objects.annotate(count=Count("airports")).filter(count__gt=0)
    return render(request, "flights/countries.html", {"countries": listed})


@require_safe
def country(request: HttpRequest, code: str) -> HttpResponse:
    found = get_object_or_404(Country, code=code)
    airports = found.airports.exclude(iata="")
    page = Paginator(airports, 60).get_page(request.GET.get("page"))
    return render(
        request, "flights/country.html", {"country": found, "page": page, "total": found.airports.count(), "query": ""}
    )


@require_safe
def news(request: HttpRequest) -> HttpResponse:
    return render(request, "flights/news.html", {"articles": Article.objects.all()[:30]})


@require_safe
def article(request: HttpRequest, slug: str) -> HttpResponse:
    return render(request, "flights/article.html", {"article": get_object_or_404(Article, slug=slug)})


def sign_up(request: HttpRequest) -> HttpResponse:
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.save())
        return redirect("home")
    return render(request, "registration/sign_up.html", {"form": form})


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")
